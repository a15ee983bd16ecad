import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { probe, tryInfer } from './client.js';
import type { InferCall } from './client.js';
import { BASE, SETS, exampleOf, isClose } from './demo.js';
import { inHouse } from './prometheus.js';
import { launchServer } from './server.js';
import type { RunningServer } from './server.js';
import { until } from './until.js';
import { Workspace } from './workspace.js';

const REQUESTS = 30;
/** So much work that the requests are under way for a good while. */
const ROWS = 32;
const LENGTH = 64;

describe('the server ends in good order', () => {
  const workspace = new Workspace();
  after(() => workspace.close());

  const repeated = (model: string, rows: number): InferCall => ({
    model,
    rows: Array.from({ length: rows }, () => exampleOf(model === BASE ? 'base' : model).input_ids),
    length: LENGTH,
    binary: true,
  });

  /** Probes until readiness fails; liveness holds meanwhile. */
  async function untilDraining({ url }: RunningServer): Promise<void> {
    await until('readiness is 503', async () => {
      const { status, text } = await probe(url, '/readyz');
      if (status === 200) return undefined;
      assert.equal(status, 503);
      assert.match(text, /draining/);
      return true;
    });
    assert.equal((await probe(url, '/v2/health/ready')).status, 503);
    assert.equal((await probe(url, '/healthz')).status, 200);
    assert.equal((await probe(url, '/v2/health/live')).status, 200);
  }

  test(`SIGTERM during ${REQUESTS} requests: all are answered, then it exits with 0`, async () => {
    const server = await workspace.start({ flags: ['--drain-timeout-ms', '120000'] });
    const models = [...SETS.values()].map(({ model }) => model);
    let answered = 0;
    const requests = Array.from({ length: REQUESTS }, async (_, i) => {
      const model = models[i % models.length] ?? BASE;
      const answer = await tryInfer(server.url, repeated(model, ROWS));
      answered += 1;
      return { model, answer };
    });
    await until('all requests have arrived', async () => {
      const busy = await inHouse(server.url);
      return answered + busy >= REQUESTS || undefined;
    });
    assert.ok(answered < REQUESTS, 'some are under way');
    server.signal('SIGTERM');
    await untilDraining(server);
    assert.ok(answered < REQUESTS, 'readiness fails before they are answered');
    const late = await probe(server.url, `/v2/models/${BASE}`);
    assert.equal(late.status, 503);
    assert.equal(late.headers['retry-after'], '1');
    assert.equal(late.headers.connection, 'close');

    for (const { model, answer } of await Promise.all(requests)) {
      assert.equal(answer.status, 200, answer.error ?? '');
      assert.equal(answer.logits.length, ROWS);
      const { logits } = exampleOf(model === BASE ? 'base' : model);
      for (const row of answer.logits) assert.ok(isClose(row, logits), model);
    }
    const { code, stderr } = await server.ended;
    assert.equal(code, 0);
    assert.equal(stderr, '');
    assert.equal(server.log.at(-1)?.msg, 'drained');
    await assert.rejects(probe(server.url, '/healthz'), /ECONNREFUSED/);
  });

  test('an idle server with open connections exits with 0 on SIGTERM and on SIGINT', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const server = await workspace.start();
      assert.equal((await fetch(`${server.url}/v2`)).status, 200);
      server.signal(signal);
      assert.equal((await server.ended).code, 0);
    }
  });

  test('a server that still opens its base exits with 0', async () => {
    for (const turn of [1, 2, 3, 4]) {
      const cacheDir = join(workspace.folder, `empty-cache-${turn}`);
      const server = await launchServer({ adapters: workspace.adapters, cacheDir });
      server.signal('SIGTERM');
      const { code, signal, stderr } = await server.ended;
      assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' });
      assert.equal(server.log.at(-1)?.msg, 'drained');
    }
  });

  test('what is under way when the time for draining is over is cut off', async () => {
    const server = await workspace.start({ flags: ['--drain-timeout-ms', '1'] });
    const cut = assert.rejects(tryInfer(server.url, repeated(BASE, 1024)));
    await until('it is under way', async () => (await inHouse(server.url)) > 0 || undefined);
    server.signal('SIGTERM');
    await cut;
    assert.equal((await server.ended).code, 0);
  });

  test('a second signal ends it at once', async () => {
    const server = await workspace.start();
    const cut = assert.rejects(tryInfer(server.url, repeated(BASE, 1024)));
    await until('it is under way', async () => (await inHouse(server.url)) > 0 || undefined);
    server.signal('SIGTERM');
    await untilDraining(server);
    server.signal('SIGTERM');
    await cut;
    const { code, signal, stderr } = await server.ended;
    assert.deepEqual({ code, signal, stderr }, { code: null, signal: 'SIGKILL', stderr: '' });
  });
});
