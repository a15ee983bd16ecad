import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { adapterEntry, infer, request, tryInfer } from './client.js';
import type { InferAnswer } from './client.js';
import { BASE, exampleOf, isClose, setOf } from './demo.js';
import { scrape } from './prometheus.js';
import { DEMO_ADAPTERS } from './server.js';
import type { RunningServer } from './server.js';
import { until } from './until.js';
import { Workspace } from './workspace.js';

const [ONE, TWO] = ['acme-retail', 'globex-cloud'] as const;
const WEIGHTS = 'adapter_model.safetensors';
const CONFIG = 'adapter_config.json';

describe('adapters come and go while the server runs', () => {
  const workspace = new Workspace([ONE]);
  let server: RunningServer;
  before(async () => {
    server = await workspace.start();
  });
  after(() => workspace.close());

  /** Row 0 of `like`'s examples, asked of `model`. */
  const ask = (model: string, like: string): Promise<InferAnswer> =>
    tryInfer(server.url, { model, rows: [exampleOf(like).input_ids] });

  /** Resolves once `model` answers as the demo's `like` does. */
  const untilServes = (model: string, like: string): Promise<InferAnswer> =>
    until(`${model} answers like ${like}`, async () => {
      const answer = await ask(model, like);
      return isClose(answer.logits[0] ?? [], exampleOf(like).logits) ? answer : undefined;
    });

  const untilStatus = (model: string, status: number): Promise<InferAnswer> =>
    until(`${model} answers ${status}`, async () => {
      const answer = await ask(model, ONE);
      return answer.status === status ? answer : undefined;
    });

  /** The others answer as ever. */
  async function assertOthersServed(): Promise<void> {
    for (const model of [ONE, BASE]) {
      const { input_ids: ids, logits } = exampleOf(model === BASE ? 'base' : model);
      const [got] = await infer(server.url, { model, rows: [ids] });
      assert.ok(isClose(got ?? [], logits), model);
    }
  }

  test('a folder dropped in is served', async () => {
    const unknown = await ask('newcomer', TWO);
    assert.equal(unknown.status, 404);
    assert.match(unknown.error ?? '', /newcomer/);
    workspace.install(workspace.stage(TWO), 'newcomer');
    await untilServes('newcomer', TWO);
    const { body } = await request<{ data: { id: string }[] }>(server.url, 'GET', '/v1/adapters');
    assert.deepEqual(
      body.data.map(({ id }) => id),
      [ONE, 'newcomer'],
    );
  });

  test('a folder replaced by renaming is served in its new version, the old one is gone', async () => {
    workspace.install(workspace.stage(ONE), 'replaced');
    const { version: old } = await untilServes('replaced', ONE);
    assert.ok(old);
    const versionOf = (version: string) =>
      tryInfer(server.url, { model: 'replaced', version, rows: [exampleOf(ONE).input_ids] });
    assert.equal((await versionOf(old)).status, 200);

    workspace.install(workspace.stage(TWO), 'replaced');
    const { version } = await untilServes('replaced', TWO);
    assert.ok(version !== null && version !== old);
    assert.equal((await versionOf(version)).status, 200);
    assert.equal((await versionOf(old)).status, 404);
    assert.equal((await adapterEntry(server.url, 'replaced'))?.version, version);
    await untilResidentCountsMatch(server);
  });

  test('a folder renamed away is unknown', async () => {
    workspace.install(workspace.stage(TWO), 'leaving');
    await untilServes('leaving', TWO);
    workspace.remove('leaving');
    const gone = await untilStatus('leaving', 404);
    assert.match(gone.error ?? '', /leaving/);
    assert.equal(await adapterEntry(server.url, 'leaving'), undefined);
    await untilResidentCountsMatch(server);
    await assertOthersServed();
  });

  const weights = readFileSync(join(DEMO_ADAPTERS, ONE, WEIGHTS));
  const config = readFileSync(join(DEMO_ADAPTERS, ONE, CONFIG), 'utf8');
  const broken: readonly [what: string, code: string, files: Record<string, string | Uint8Array>][] = [
    ['weights cut short', 'SAFETENSORS', { [CONFIG]: config, [WEIGHTS]: weights.subarray(0, 5000) }],
    ['weights missing', 'ADAPTER_WEIGHTS_MISSING', { [CONFIG]: config }],
    ['configuration missing', 'ADAPTER_CONFIG_MISSING', { [WEIGHTS]: weights }],
    ['configuration not JSON', 'ADAPTER_CONFIG_INVALID', { [CONFIG]: '{', [WEIGHTS]: weights }],
    [
      'another kind',
      'ADAPTER_TYPE_UNSUPPORTED',
      { [CONFIG]: config.replace('"BOFT"', '"VERA"'), [WEIGHTS]: weights },
    ],
  ];
  for (const [what, code, files] of broken) {
    test(`a broken folder is listed as failed, its requests refused, until it is mended: ${what}`, async () => {
      const name = `broken ${what}`;
      workspace.install(workspace.stageFiles(files), name);
      const failure = await until(`${name} is failed`, async () => {
        const found = await adapterEntry(server.url, name);
        return found?.state === 'failed' ? (found.error ?? undefined) : undefined;
      });
      assert.ok(failure.code.startsWith(code), failure.code);
      const refused = await ask(name, ONE);
      assert.equal(refused.status, 422);
      assert.equal(refused.error, failure.message);
      const ready = await fetch(`${server.url}/v2/models/${encodeURIComponent(name)}/ready`);
      assert.equal(ready.status, 503);
      await assertOthersServed();

      workspace.install(workspace.stage(TWO), name);
      await untilServes(name, TWO);
      assert.equal((await adapterEntry(server.url, name))?.error, null);
    });
  }

  test('a folder that is copied slowly is served once it is whole', async () => {
    const name = 'copied';
    mkdirSync(join(workspace.adapters, name));
    for (const [file, half] of [
      [CONFIG, 300],
      [WEIGHTS, weights.length / 2],
    ] as const) {
      const bytes = readFileSync(join(DEMO_ADAPTERS, ONE, file));
      writeFileSync(join(workspace.adapters, name, file), bytes.subarray(0, half));
      await until(`half of ${file} is refused`, async () => {
        const found = await adapterEntry(server.url, name);
        return found?.state === 'failed' || undefined;
      });
      assert.equal((await ask(name, ONE)).status, 422);
      writeFileSync(join(workspace.adapters, name, file), bytes);
    }
    await untilServes(name, ONE);
    assert.equal((await adapterEntry(server.url, name))?.error, null);
  });

  test('a broken replacement is reported, and what was served is served on', async () => {
    const name = 'survivor';
    workspace.install(workspace.stage(TWO), name);
    const { version } = await untilServes(name, TWO);
    writeFileSync(join(workspace.adapters, name, WEIGHTS), weights.subarray(0, 100));
    const entry = await until(`${name} has an error`, async () => {
      const found = await adapterEntry(server.url, name);
      return found?.error == null ? undefined : found;
    });
    assert.equal(entry.state, 'ready');
    assert.equal(entry.version, version);
    assert.equal((await untilServes(name, TWO)).version, version);

    workspace.install(workspace.stage(ONE), name);
    await untilServes(name, ONE);
    assert.equal((await adapterEntry(server.url, name))?.error, null);
  });

  test('a folder dropped in is served while another one never rests', async () => {
    const busy = join(workspace.adapters, ONE, 'training.log');
    const writer = setInterval(() => {
      writeFileSync(busy, `${performance.now()}\n`);
    }, 25);
    try {
      workspace.install(workspace.stage(TWO), 'impatient');
      await untilServes('impatient', TWO);
    } finally {
      clearInterval(writer);
    }
  });

  test('every example of every version that was swapped in is exact', async () => {
    for (const [model, like] of [
      ['newcomer', TWO],
      ['replaced', TWO],
      ['survivor', ONE],
    ] as const) {
      const { logits } = setOf(like);
      const got = await infer(server.url, { model, rows: logits.map(({ input_ids }) => input_ids) });
      for (const [i, example] of logits.entries()) assert.ok(isClose(got[i] ?? [], example.logits), model);
    }
  });
});

/** Resident are the current versions of the adapters that are listed so, no older ones. */
async function untilResidentCountsMatch(server: RunningServer): Promise<void> {
  await until('only current versions are resident', async () => {
    const { body } = await request<{ data: { tier: string }[] }>(server.url, 'GET', '/v1/adapters');
    const listed = body.data.filter(({ tier }) => tier === 'host').length;
    const resident = (await scrape(server.url)).sum('papillon_adapters', { tier: 'host' });
    return listed === resident || undefined;
  });
}
