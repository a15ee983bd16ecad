/** The generations of PEFT's OFT that rotate the input. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { loadAdapter } from '#dist/adapters/index.js';
import { neumannCoefficients } from '#dist/adapters/oft.js';
import type { ModuleOperands } from '#dist/types.js';
import { denseCayley, identity, multiply } from '../reference/dense-butterfly.js';
import { loadContext, numbers, refusal, temporaryDirectory, writeAdapter, type Tensors } from './support.js';

const WEIGHT = 'base_model.model.encoder.query.oft_R.weight';

function load(t: TestContext, tensors: Tensors, config: object = {}): ModuleOperands | undefined {
  const root = temporaryDirectory(t);
  writeAdapter(root, 'a', tensors, {
    peft_type: 'OFT',
    peft_version: '0.21.0',
    oft_block_size: 4,
    ...config,
  });
  return loadAdapter(loadContext(root), 'a').operands.at(0);
}

/** Skew matrix of a packed strict upper triangle of 4 × 4. */
function skew(v: readonly number[]): number[] {
  assert.equal(v.length, 6);
  const [a, b, c, d, e, f] = v as [number, number, number, number, number, number];
  return [0, a, b, c, -a, 0, d, e, -b, -d, 0, f, -c, -e, -f, 0];
}

function assertBlocks(operands: ModuleOperands | undefined, blocks: readonly ArrayLike<number>[]): void {
  const want = blocks.flatMap((block) => Array.from(block));
  const got = operands?.rotation?.blocks ?? [];
  assert.equal(got.length, want.length);
  want.forEach((value, i) => {
    assert.ok(Math.abs(value - (got[i] as number)) < 1e-6, `element ${i}`);
  });
}

test('exact Cayley of the packed skew matrices, without a scale', (t) => {
  const values = numbers(12, 2);
  const operands = load(t, { [WEIGHT]: { shape: [2, 6], values } }, { use_cayley_neumann: false });
  // denseCayley takes (A − Aᵀ)/2, which of a skew A is A.
  assertBlocks(operands, [denseCayley(skew(values.slice(0, 6)), 4), denseCayley(skew(values.slice(6)), 4)]);
  assert.equal(operands?.scale, undefined);
});

test('the Neumann series, by PEFT’s version', (t) => {
  const values = numbers(12, 3, 0.1);
  const series = (coefficients: readonly number[], v: readonly number[]) => {
    const q = Float64Array.from(skew(v));
    let power = identity(4);
    const sum = new Float64Array(16);
    for (const coefficient of coefficients) {
      power.forEach((value, i) => (sum[i] = (sum[i] as number) + coefficient * value));
      power = multiply(power, q, 4);
    }
    return sum;
  };
  const tensors = { [WEIGHT]: { shape: [2, 6], values } };
  const expected = (c: readonly number[]) => [series(c, values.slice(0, 6)), series(c, values.slice(6))];
  assertBlocks(load(t, tensors), expected([1, 2, 2, 2, 1]));
  assertBlocks(load(t, tensors, { peft_version: undefined }), expected([1, 2, 2, 2, 2]));
  assertBlocks(load(t, tensors, { num_cayley_neumann_terms: 3 }), expected([1, 2, 2, 1]));
});

test('coefficients of the series', () => {
  const by = (version: string | null) =>
    [1, 2, 3, 4, 5, 6].map((terms) => neumannCoefficients(terms, version).join(''));
  assert.deepEqual(by('0.18.0'), ['1', '12', '1221', '1221', '12221', '122221']);
  assert.deepEqual(by(null), ['1', '12', '122', '1222', '12222', '122222']);
});

test('a shared block is repeated over the layer', (t) => {
  const values = numbers(6, 4);
  const config = { block_share: true, use_cayley_neumann: false };
  const block = denseCayley(skew(values), 4);
  assertBlocks(load(t, { [WEIGHT]: { shape: [1, 6], values } }, config), [block, block]);
});

test('COFT shrinks blocks to eps/√blocks', (t) => {
  const values = [...numbers(6, 5), 1e-3, 0, 0, 0, 0, 0];
  const config = { coft: true, eps: 0.1, use_cayley_neumann: false };
  const radius = 0.1 / Math.SQRT2;
  const first = skew(values.slice(0, 6));
  const shrunk = first.map((value) => (value * radius) / Math.hypot(...first));
  assertBlocks(load(t, { [WEIGHT]: { shape: [2, 6], values } }, config), [
    denseCayley(shrunk, 4),
    denseCayley(skew(values.slice(6)), 4),
  ]);
});

test('an untrained adapter has no rotation', (t) => {
  assert.equal(load(t, { [WEIGHT]: { shape: [2, 6], values: new Array<number>(12).fill(0) } }), undefined);
});

test('0.14 and 0.15: matrices with a scale, as BOFT with one factor', (t) => {
  const values = numbers(32, 6);
  const scale = numbers(6, 7);
  const operands = load(
    t,
    {
      'base_model.model.encoder.query.oft_r': { shape: [2, 4, 4], values },
      'base_model.model.encoder.query.oft_s': { shape: [6, 1], values: scale },
    },
    { peft_version: undefined, oft_block_size: 0, r: 2 },
  );
  assertBlocks(operands, [denseCayley(values.slice(0, 16), 4), denseCayley(values.slice(16), 4)]);
  assert.deepEqual([...(operands?.scale ?? [])], scale);
});

test('0.13 and before rotate the output and are refused', (t) => {
  const tensors = { 'base_model.model.encoder.query.oft_r': { shape: [2, 3, 3], values: numbers(18) } };
  const config = { peft_version: undefined, oft_block_size: undefined, r: 2 };
  assert.throws(() => load(t, tensors, config), refusal('ADAPTER_PART_UNSUPPORTED', 'output'));
});

test('refused: shapes that are no OFT of the module', (t) => {
  const weights = (shape: number[]): Tensors => ({
    [WEIGHT]: { shape, values: numbers((shape[0] as number) * (shape[1] as number)) },
  });
  assert.throws(() => load(t, weights([2, 7])), refusal('ADAPTER_SHAPE_MISMATCH', WEIGHT, '7'));
  assert.throws(() => load(t, weights([3, 6])), refusal('ADAPTER_SHAPE_MISMATCH', WEIGHT, 'expected 2'));
  assert.throws(() => load(t, weights([2, 3])), refusal('ADAPTER_SHAPE_MISMATCH', WEIGHT, 'divide'));
  assert.throws(
    () => load(t, weights([2, 6]), { block_share: true }),
    refusal('ADAPTER_SHAPE_MISMATCH', 'expected 1'),
  );
});

test('refused: a rotated embedding', (t) => {
  const key = 'base_model.model.embeddings.oft_embedding_R.weight';
  assert.throws(
    () => load(t, { [key]: { shape: [2, 6], values: numbers(12) } }),
    refusal('ADAPTER_PART_UNSUPPORTED', 'embedding'),
  );
});
