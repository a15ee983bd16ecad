import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import { Statistics } from '#dist/engine/statistics.js';
import { at } from '../support/at.js';
import { harness, rejects, settle } from './harness.js';

test('counts rows, batches and times of each model', async () => {
  const h = harness({
    tuning: { maxInFlightBatches: 1 },
    executor: { held: true, assembleMs: 2, inferenceMs: 10 },
  });
  await settle();
  const answers = [h.ask({ rows: 2 }), h.ask(), h.ask({ adapterId: 'a', length: 5 })];
  await settle();
  h.clock.advance(40);
  h.executor.release();
  await Promise.all(answers);
  const base = at(h.engine.statistics('base'));
  const a = at(h.engine.statistics('a'));
  assert.equal(base.inferenceCount, 3);
  assert.equal(base.success.count, 2);
  assert.deepEqual(base.computeInfer, { count: 2, ns: 20e6 });
  assert.deepEqual(base.computeInput, { count: 2, ns: 4e6 });
  assert.deepEqual(base.queue, { count: 2, ns: 2 * 28e6 });
  assert.equal(base.success.ns, base.queue.ns + base.computeInput.ns + base.computeInfer.ns);
  assert.deepEqual(base.computeOutput, { count: 2, ns: 0 });
  assert.equal(base.lastInference, h.clock.now());
  assert.equal(base.executionCount, 1);
  assert.deepEqual(base.batches, [{ rows: 4, count: 1, inferNs: 10e6 }]);
  assert.equal(a.version, '1');
  assert.deepEqual(
    h.engine.statistics().map(({ name }) => name),
    ['base', 'a'],
  );
  const unused = at(h.engine.statistics('b'));
  assert.deepEqual([unused.name, unused.inferenceCount, unused.lastInference], ['b', 0, 0]);
  assert.throws(
    () => h.engine.statistics('nobody'),
    (error) => error instanceof PapillonError && error.code === 'UNKNOWN_MODEL',
  );
});

test('tells the observer about batches and about every outcome', async () => {
  const h = harness({ executor: { assembleMs: 2, inferenceMs: 10 } });
  await Promise.all([h.ask({ rows: 2, length: 4 }), h.ask({ length: 5 })]);
  assert.deepEqual(h.observed.batches, [
    {
      rows: 3,
      requests: 2,
      distinctAdapters: 0,
      tokens: 13,
      paddedTokens: 15,
      assembleSeconds: 0.002,
      inferenceSeconds: 0.01,
      plan: 'base',
    },
  ]);
  h.executor.failWhen(() => new PapillonError('INFERENCE_FAILED', 'no'));
  await rejects(h.ask({ adapterId: 'a' }), 'INFERENCE_FAILED');
  await rejects(h.ask({ adapterId: 'a', inputs: new Map() }), 'MISSING_INPUT');
  assert.deepEqual(
    h.observed.requests.map(({ adapterId, outcome, rows }) => [adapterId, outcome, rows]),
    [
      [null, 'ok', 2],
      [null, 'ok', 1],
      ['a', 'INFERENCE_FAILED', 1],
      ['a', 'MISSING_INPUT', 0],
    ],
  );
  assert.equal(h.engine.statistics('a')[0]?.fail.count, 2);
});

test('keeps figures of the recently used adapters only, and always of the base', () => {
  const statistics = new Statistics({ baseId: 'base', maxAdapters: 2 });
  for (const id of ['a', 'b', null, 'a', 'c']) statistics.failed(id, 1);
  assert.deepEqual(
    statistics.all().map(({ name, fail }) => [name, fail.count]),
    [
      ['base', 1],
      ['a', 2],
      ['c', 1],
    ],
  );
  assert.equal(statistics.one('b').fail.count, 0);
});
