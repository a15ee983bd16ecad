import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InFlight } from '#dist/engine/in-flight.js';
import { Wakeup } from '#dist/engine/wakeup.js';
import { FakeClock } from '../support/fake-clock.js';

test('the forecast lines batches up behind each other', () => {
  const inFlight = new InFlight(2);
  assert.equal(inFlight.forecast, null);
  inFlight.started(100, 50);
  assert.deepEqual(inFlight.forecast, { freeAtMs: 150, batchMs: 50 });
  assert.equal(inFlight.canStart, true);
  inFlight.started(120, 30);
  assert.deepEqual(inFlight.forecast, { freeAtMs: 180, batchMs: 30 });
  assert.equal(inFlight.canStart, false);
  inFlight.finished();
  inFlight.finished();
  assert.equal(inFlight.forecast, null);
});

test('without an estimate, or when a batch is overdue, the device is taken to come free now', () => {
  const inFlight = new InFlight(2);
  inFlight.started(100, null);
  assert.deepEqual(inFlight.forecast, { freeAtMs: 100, batchMs: 0 });
  inFlight.started(130, 10);
  assert.deepEqual(inFlight.forecast, { freeAtMs: 140, batchMs: 10 });
});

test('one timer serves all: an earlier time replaces it, a later one does not, null ends it', () => {
  const clock = new FakeClock(0);
  const calls: number[] = [];
  const wakeup = new Wakeup(clock, () => calls.push(clock.now()));
  wakeup.at(100);
  wakeup.at(200);
  assert.equal(clock.pending, 1);
  wakeup.at(50);
  assert.equal(clock.pending, 1);
  clock.advance(150);
  assert.deepEqual(calls, [50]);
  wakeup.at(300);
  wakeup.at(400);
  clock.advance(150);
  assert.deepEqual(calls, [50, 300]);
  wakeup.at(500);
  wakeup.at(null);
  assert.equal(clock.pending, 0);
  wakeup.at(10);
  clock.advance(0);
  assert.deepEqual(calls, [50, 300, 300]);
});
