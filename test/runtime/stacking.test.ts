/** Stacking inputs with padding, and cutting outputs apart again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import { itemLength, splitOutputs, stackItems, tokenLength } from '#dist/runtime/stacking.js';
import type { BatchItem, BatchLayout, Tensor, TensorSpec } from '#dist/types.js';

const INPUTS: readonly TensorSpec[] = [
  { name: 'ids', datatype: 'INT64', dims: ['batch', 'sequence'] },
  { name: 'features', datatype: 'FP32', dims: ['batch', 'sequence', 2] },
  { name: 'flag', datatype: 'INT32', dims: ['batch'] },
];
const OUTPUTS: readonly TensorSpec[] = [
  { name: 'hidden', datatype: 'FP32', dims: ['batch', 'sequence', 2] },
  { name: 'channels', datatype: 'FP32', dims: ['batch', 2, 'sequence'] },
  { name: 'logits', datatype: 'FP32', dims: ['batch', 3] },
];
const PADDED: BatchLayout = { stackable: true, paddedAxis: 'sequence' };
const EQUAL: BatchLayout = { stackable: true, paddedAxis: null };

/** Numbers that say where they come from: 100·item + counter. */
function item(id: number, rows: number, length: number): BatchItem {
  const ids = Array.from({ length: rows * length }, (_, i) => BigInt(100 * id + i));
  const features = Array.from({ length: rows * length * 2 }, (_, i) => 100 * id + i);
  return {
    adapterKey: null,
    rows,
    inputs: new Map<string, Tensor>([
      ['ids', { datatype: 'INT64', shape: [rows, length], data: BigInt64Array.from(ids) }],
      ['features', { datatype: 'FP32', shape: [rows, length, 2], data: Float32Array.from(features) }],
      ['flag', { datatype: 'INT32', shape: [rows], data: Int32Array.from({ length: rows }, () => id) }],
    ]),
  };
}

function stacked(items: readonly BatchItem[], layout = PADDED): ReadonlyMap<string, Tensor> {
  return new Map(stackItems(items, INPUTS, layout).inputs);
}

function numbers(tensor: Tensor | undefined): number[] {
  return Array.from(tensor?.data ?? [], Number);
}

describe('stacking', () => {
  it('fills shorter items with zeros on the padded axis', () => {
    const inputs = stacked([item(1, 1, 2), item(2, 2, 3)]);
    assert.deepEqual(inputs.get('ids')?.shape, [3, 3]);
    assert.deepEqual(numbers(inputs.get('ids')), [100, 101, 0, 200, 201, 202, 203, 204, 205]);
    assert.deepEqual(inputs.get('features')?.shape, [3, 3, 2]);
    assert.deepEqual(numbers(inputs.get('features')).slice(0, 8), [100, 101, 102, 103, 0, 0, 200, 201]);
    assert.deepEqual(numbers(inputs.get('flag')), [1, 2, 2]);
  });

  it('keeps each datatype’s array type', () => {
    const inputs = stacked([item(1, 1, 1), item(2, 1, 2)]);
    assert.ok(inputs.get('ids')?.data instanceof BigInt64Array);
    assert.ok(inputs.get('features')?.data instanceof Float32Array);
    assert.ok(inputs.get('flag')?.data instanceof Int32Array);
  });

  it('lays equal shapes one behind the other without a padded axis', () => {
    const inputs = stacked([item(1, 1, 2), item(2, 1, 2)], EQUAL);
    assert.deepEqual(numbers(inputs.get('ids')), [100, 101, 200, 201]);
  });

  it('copies nothing for a single item', () => {
    const only = item(1, 2, 3);
    assert.equal(stacked([only]).get('ids'), only.inputs.get('ids'));
  });

  it('stacks texts', () => {
    const specs: TensorSpec[] = [{ name: 'text', datatype: 'BYTES', dims: ['batch', 1] }];
    const text = (word: string): BatchItem => ({
      adapterKey: null,
      rows: 1,
      inputs: new Map([['text', { datatype: 'BYTES' as const, shape: [1, 1], data: [word] }]]),
    });
    const { inputs } = stackItems([text('a'), text('b')], specs, EQUAL);
    assert.deepEqual(inputs[0]?.[1], { datatype: 'BYTES', shape: [2, 1], data: ['a', 'b'] });
  });

  it('refuses an item without an input, by its name', () => {
    const broken = { ...item(1, 1, 1), inputs: new Map() };
    assert.throws(
      () => stackItems([broken], INPUTS, PADDED),
      (error) =>
        error instanceof PapillonError && error.code === 'MISSING_INPUT' && error.message.includes("'ids'"),
    );
  });

  it('counts tokens along the padded axis, else along axis 1 of a 2-D input', () => {
    assert.equal(itemLength(item(1, 1, 5), INPUTS, PADDED), 5);
    assert.equal(itemLength(item(1, 1, 5), INPUTS, EQUAL), 1);
    assert.equal(tokenLength(item(1, 1, 5), INPUTS, EQUAL), 5);
    assert.equal(tokenLength(item(1, 1, 5), INPUTS.slice(2), EQUAL), 1);
  });
});

describe('splitting', () => {
  const tensor = (shape: number[]): Tensor => {
    const size = shape.reduce((product, n) => product * n, 1);
    return { datatype: 'FP32', shape, data: Float32Array.from({ length: size }, (_, i) => i) };
  };
  const split = (
    items: readonly BatchItem[],
    layout: BatchLayout,
    length: number,
  ): ReturnType<typeof splitOutputs> => {
    const rows = items.reduce((sum, { rows: n }) => sum + n, 0);
    const outputs = [
      ['hidden', tensor([rows, length, 2])],
      ['channels', tensor([rows, 2, length])],
      ['logits', tensor([rows, 3])],
    ] as const;
    return splitOutputs(items, outputs, { inputs: INPUTS, outputs: OUTPUTS }, layout);
  };

  it('gives every item its rows without their padding, wherever the axis is', () => {
    const [first, second] = split([item(1, 1, 2), item(2, 2, 3)], PADDED, 3);
    assert.ok(first && second);
    assert.deepEqual(first.get('hidden')?.shape, [1, 2, 2]);
    assert.deepEqual(numbers(first.get('hidden')), [0, 1, 2, 3]);
    assert.deepEqual(first.get('channels')?.shape, [1, 2, 2]);
    assert.deepEqual(numbers(first.get('channels')), [0, 1, 3, 4]);
    assert.deepEqual(numbers(first.get('logits')), [0, 1, 2]);
    assert.deepEqual(second.get('hidden')?.shape, [2, 3, 2]);
    assert.deepEqual(numbers(second.get('hidden'))[0], 6);
    assert.deepEqual(numbers(second.get('logits')), [3, 4, 5, 6, 7, 8]);
  });

  it('copies nothing where nothing is cut', () => {
    const parts = split([item(1, 1, 3), item(2, 1, 3)], PADDED, 3);
    const buffers = parts.map((own) => (own.get('hidden')?.data as Float32Array).buffer);
    assert.equal(buffers[0], buffers[1]);
  });

  it('gives everything to the only item of a layout that cannot be stacked', () => {
    const only = item(1, 1, 2);
    const outputs = [['logits', tensor([7])]] as const;
    const layout = { stackable: false, paddedAxis: null };
    assert.deepEqual(splitOutputs([only], outputs, { inputs: INPUTS, outputs: OUTPUTS }, layout), [
      new Map(outputs),
    ]);
  });
});
