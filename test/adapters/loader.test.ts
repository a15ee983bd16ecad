/** The loader's real thread. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { AdapterLoader } from '#dist/adapters/index.js';
import { at } from '../support/at.js';
import { loadContext, queryTensors, refusal, temporaryDirectory, writeAdapter } from './support.js';

/** A loader, and the threads it starts. */
function open(t: TestContext) {
  const root = temporaryDirectory(t);
  const workers: Worker[] = [];
  const loader = new AdapterLoader(loadContext(root), (script, context) => {
    const worker = new Worker(script, { workerData: context });
    workers.push(worker);
    return worker;
  });
  t.after(() => loader.close());
  return { root, loader, workers };
}

test('operands arrive with buffers of their own, and errors as what they are', async (t) => {
  const { root, loader, workers } = open(t);
  writeAdapter(root, 'good', queryTensors());
  writeAdapter(root, 'bad', {});
  const [loaded, refused, summary] = await Promise.allSettled([
    loader.load('good'),
    loader.load('bad'),
    loader.inspect('good'),
  ]);
  assert.equal(loaded.status, 'fulfilled');
  const { rotation, scale } = at(loaded.value.operands);
  assert.equal(rotation?.blocks.buffer.byteLength, rotation?.blocks.byteLength);
  assert.notEqual(rotation?.blocks.buffer, scale?.buffer);
  assert.equal(refused.status, 'rejected');
  refusal('ADAPTER_EMPTY')(refused.reason);
  assert.equal(summary.status, 'fulfilled');
  assert.deepEqual(summary.value, { kind: 'BOFT', moduleNames: ['encoder.query'] });
  assert.equal(workers.length, 1);
});

test('a load overtakes inspections that wait', async (t) => {
  const { root, loader } = open(t);
  writeAdapter(root, 'a', queryTensors());
  const order: string[] = [];
  await Promise.all([
    loader.inspect('a').then(() => order.push('inspected first')),
    loader.inspect('a').then(() => order.push('inspected second')),
    loader.load('a').then(() => order.push('loaded')),
  ]);
  assert.deepEqual(order, ['inspected first', 'loaded', 'inspected second']);
});

test('a thread that dies fails what it was reading only, and the next job starts another', async (t) => {
  const { root, loader, workers } = open(t);
  writeAdapter(root, 'a', queryTensors());
  const lost = loader.load('a');
  const queued = loader.load('a');
  const failure = assert.rejects(lost, refusal('ENGINE_RESTARTED'));
  await at(workers).terminate();
  await failure;
  assert.equal((await queued).kind, 'BOFT');
  assert.equal(workers.length, 2);
});

test('a closed loader rejects what waits and what comes', async (t) => {
  const { root, loader } = open(t);
  writeAdapter(root, 'a', queryTensors());
  const waiting = [loader.load('a'), loader.load('a'), loader.inspect('a')];
  const failures = waiting.map((job) => assert.rejects(job, refusal('SHUTTING_DOWN')));
  await loader.close();
  await Promise.all(failures);
  await assert.rejects(loader.load('a'), refusal('SHUTTING_DOWN'));
});

test('messages are cut where names in the file are endless', async (t) => {
  const { root, loader } = open(t);
  writeAdapter(root, 'a', { ['x'.repeat(100_000)]: { shape: [1], values: [1] } });
  await assert.rejects(loader.load('a'), (error: Error) => error.message.length <= 1000);
});
