import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shapeOfRequest } from '#dist/scheduler/shape-class.js';
import type { Tensor, TensorMap, TensorSpec } from '#dist/types.js';

const ids: TensorSpec = { name: 'ids', datatype: 'INT64', dims: ['batch', 'sequence'] };
const pixels: TensorSpec = { name: 'pixels', datatype: 'FP32', dims: ['batch', 3, 'height', ''] };

function inputs(shapes: Record<string, number[]>): TensorMap {
  const tensor = (shape: number[]): Tensor => ({ datatype: 'FP32', shape, data: new Float32Array(0) });
  return new Map(Object.entries(shapes).map(([name, shape]) => [name, tensor(shape)]));
}

test('the padded axis is the length and does not enter the class', () => {
  const model = { inputs: [ids], layout: { stackable: true, paddedAxis: 'sequence' } };
  const a = shapeOfRequest(model, inputs({ ids: [2, 5] }));
  const b = shapeOfRequest(model, inputs({ ids: [3, 9] }));
  assert.deepEqual([a.rows, a.length, b.rows, b.length], [2, 5, 3, 9]);
  assert.equal(a.shapeClass, b.shapeClass);
});

test('without a padded axis only equal shapes share a class, and length does not count', () => {
  const model = { inputs: [ids], layout: { stackable: true, paddedAxis: null } };
  const a = shapeOfRequest(model, inputs({ ids: [2, 5] }));
  assert.equal(a.length, 1);
  assert.equal(a.shapeClass, shapeOfRequest(model, inputs({ ids: [1, 5] })).shapeClass);
  assert.notEqual(a.shapeClass, shapeOfRequest(model, inputs({ ids: [2, 6] })).shapeClass);
});

test('every other axis of every input enters the class', () => {
  const model = { inputs: [ids, pixels], layout: { stackable: true, paddedAxis: 'sequence' } };
  const shape = (height: number, width: number): string | null =>
    shapeOfRequest(model, inputs({ ids: [1, 5], pixels: [1, 3, height, width] })).shapeClass;
  assert.equal(shape(8, 9), shape(8, 9));
  assert.notEqual(shape(8, 9), shape(9, 8));
  assert.notEqual(shape(8, 9), shape(89, 1));
});

test('what cannot be stacked shares its batch with nobody', () => {
  const model = { inputs: [ids], layout: { stackable: false, paddedAxis: null } };
  assert.deepEqual(shapeOfRequest(model, inputs({ ids: [4, 5] })), { shapeClass: null, rows: 1, length: 1 });
});
