import assert from 'node:assert/strict';
import { cpSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { adapterEntry, request, tryInfer } from './client.js';
import type { InferAnswer } from './client.js';
import { exampleOf, isClose } from './demo.js';
import { scrape } from './prometheus.js';
import { DEMO_ADAPTERS } from './server.js';
import type { RunningServer } from './server.js';
import { until } from './until.js';
import { Workspace } from './workspace.js';

const TENANT = 'tenant';
/** What the tenant's folder links to in turn; names that begin with a dot are no adapters. */
const VERSIONS = ['acme-retail', 'globex-cloud'] as const;
const TOKEN = 'a-token-for-tests';
const REPLACEMENTS = 50;
/** So many of them are left for the server to notice. */
const UNANNOUNCED = 6;
const CLIENTS = 6;

describe('an adapter is replaced under load', () => {
  const workspace = new Workspace([]);
  let server: RunningServer;
  before(async () => {
    for (const version of VERSIONS) {
      cpSync(join(DEMO_ADAPTERS, version), join(workspace.adapters, `.${version}`), { recursive: true });
    }
    pointTo(VERSIONS[0]);
    server = await workspace.start({ flags: ['--admin-token', TOKEN] });
  });
  after(() => workspace.close());

  /** Atomic: at any time the name leads to one version or the other. */
  function pointTo(version: string): void {
    const next = join(workspace.adapters, '.next');
    symlinkSync(`.${version}`, next);
    renameSync(next, join(workspace.adapters, TENANT));
  }

  const digests = new Map<string, string>();

  /** The version that an answer comes from, judged by its logits. */
  function versionOf(answer: InferAnswer): string | undefined {
    return VERSIONS.find((version, i) => isClose(answer.logits[i] ?? [], exampleOf(version).logits));
  }

  test(`${REPLACEMENTS} times: every request is answered, by one version or the other`, async () => {
    const rows = VERSIONS.map((version) => exampleOf(version).input_ids);
    let isOver = false;
    const answers: InferAnswer[] = [];
    const client = async (): Promise<void> => {
      while (!isOver) answers.push(await tryInfer(server.url, { model: TENANT, rows }));
    };
    const clients = Array.from({ length: CLIENTS }, client);
    for (let turn = 1; turn <= REPLACEMENTS; turn++) {
      const version = VERSIONS[turn % 2] ?? '';
      pointTo(version);
      if (turn > UNANNOUNCED) {
        const { status } = await request(server.url, 'PUT', `/v1/adapters/${TENANT}`, { token: TOKEN });
        assert.equal(status, 200);
        assert.equal(versionOf(await tryInfer(server.url, { model: TENANT, rows })), version);
      } else {
        await until(`replacement ${turn} is noticed`, async () => {
          const answer = await tryInfer(server.url, { model: TENANT, rows });
          return versionOf(answer) === version || undefined;
        });
      }
    }
    isOver = true;
    await Promise.all(clients);

    assert.ok(answers.length > REPLACEMENTS);
    for (const answer of answers) {
      assert.equal(answer.status, 200, answer.error ?? '');
      const version = versionOf(answer);
      assert.ok(version !== undefined && answer.version !== null);
      // One digest to each version, in the body and in the header.
      const known = digests.get(version) ?? answer.version;
      digests.set(version, known);
      assert.equal(answer.version, known);
      assert.equal(answer.headers.get('x-adapter-id'), `${TENANT}@${known}`);
    }
    assert.equal(new Set(digests.values()).size, VERSIONS.length);
  });

  test('afterwards one version is resident, the one the folder holds', async () => {
    const version = digests.get(VERSIONS[REPLACEMENTS % 2] ?? '');
    await until('only one version is resident', async () => {
      const { version: current } = (await adapterEntry(server.url, TENANT)) ?? {};
      const resident = (await scrape(server.url)).sum('papillon_adapters', { tier: 'host' });
      return (current === version && resident === 1) || undefined;
    });
  });
});
