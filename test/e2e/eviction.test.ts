import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { adapterEntry, infer } from './client.js';
import { BASE, SETS, isClose } from './demo.js';
import { scrape } from './prometheus.js';
import type { RunningServer } from './server.js';
import { until } from './until.js';
import { TENANTS, Workspace } from './workspace.js';

/** Holds the operands of some of the demo's adapters, never of all. */
const CACHE_BYTES = 256 * 1024;
const PINNED = 'acme-retail';

describe('more adapters are asked for than the cache holds', () => {
  const workspace = new Workspace();
  let server: RunningServer;
  before(async () => {
    const flags = ['--host-cache-bytes', String(CACHE_BYTES), '--pin', PINNED];
    server = await workspace.start({ flags });
  });
  after(() => workspace.close());

  const resident = async () =>
    (await scrape(server.url)).sum('papillon_adapter_resident_bytes', { tier: 'host' });

  test('one after the other and all at once: every answer is right', async () => {
    const sets = [...SETS.values()];
    const asked = sets.flatMap(({ model, logits }) =>
      logits.slice(0, 6).map((example) => ({ model, example })),
    );
    // By turns, so that each finds the cache full of others.
    const byTurns = asked.map((_, i) => asked[(i * 7) % asked.length] ?? assert.fail());
    const check = async ({ model, example }: (typeof asked)[number]): Promise<void> => {
      const [got] = await infer(server.url, { model, rows: [example.input_ids] });
      assert.ok(isClose(got ?? [], example.logits), `${model}: ${example.text}`);
    };
    for (const one of byTurns) await check(one);
    await Promise.all(byTurns.map(check));
    const counted = await scrape(server.url);
    assert.ok(counted.sum('papillon_adapter_cache_evictions_total') > 0);
    assert.equal(counted.sum('papillon_inference_requests_total', { outcome: 'ok' }), 2 * asked.length);
    const adapted = asked.filter(({ model }) => model !== BASE).length;
    const [hits, misses] = ['hits', 'misses'].map((what) =>
      counted.sum(`papillon_adapter_cache_${what}_total`),
    );
    assert.equal((hits ?? 0) + (misses ?? 0), 2 * adapted);
  });

  test('once no request uses them, the cache is within its bound, and what is pinned is in it', async () => {
    await until('the cache is within its bound', async () => (await resident()) <= CACHE_BYTES || undefined);
    const entries = await Promise.all(TENANTS.map((tenant) => adapterEntry(server.url, tenant)));
    assert.ok(entries.some((entry) => entry?.tier === 'catalogue'));
    assert.ok(entries.every((entry) => entry?.error === null));
    const pinned = entries.find((entry) => entry?.id === PINNED);
    assert.deepEqual([pinned?.tier, pinned?.pinned], ['host', true]);
  });
});
