/** The generations of PEFT's OFT that rotate the input. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { loadAdapter } from '#dist/adapters/index.js';
import { neumannCoefficients } from '#dist/adapters/oft.js';
import type { BaseModule, ModuleOperands, Rotation } from '#dist/types.js';
import { blockDiagonal, denseCayley, identity, multiply } from '../reference/dense-butterfly.js';
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

function assertBlocks(rotation: Rotation | undefined, blocks: readonly ArrayLike<number>[]): void {
  const want = blocks.flatMap((block) => Array.from(block));
  const got = rotation?.blocks ?? [];
  assert.equal(got.length, want.length);
  want.forEach((value, i) => {
    assert.ok(Math.abs(value - (got[i] as number)) < 1e-6, `element ${i}`);
  });
}

test('exact Cayley of the packed skew matrices, without a scale', (t) => {
  const values = numbers(12, 2);
  const operands = load(t, { [WEIGHT]: { shape: [2, 6], values } }, { use_cayley_neumann: false });
  // denseCayley takes (A − Aᵀ)/2, which of a skew A is A.
  assertBlocks(operands?.rotation, [
    denseCayley(skew(values.slice(0, 6)), 4),
    denseCayley(skew(values.slice(6)), 4),
  ]);
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
  assertBlocks(load(t, tensors)?.rotation, expected([1, 2, 2, 2, 1]));
  assertBlocks(load(t, tensors, { peft_version: undefined })?.rotation, expected([1, 2, 2, 2, 2]));
  assertBlocks(load(t, tensors, { num_cayley_neumann_terms: 3 })?.rotation, expected([1, 2, 2, 1]));
});

test('coefficients of the series', () => {
  const by = (version: string | null) =>
    [1, 2, 3, 4, 5, 6].map((terms) => neumannCoefficients(terms, version).join(''));
  assert.deepEqual(by('0.18.0'), ['1', '12', '1221', '1221', '12221', '122221']);
  const old = ['1', '12', '122', '1222', '12222', '122222'];
  for (const version of [null, '0.16.0', '0.17.1']) assert.deepEqual(by(version), old);
  for (const version of ['0.18.0.dev0', '0.21.0@main', '1.0.0', 'unreadable']) {
    assert.deepEqual(by(version), by('0.18.0'));
  }
});

test('a shared block is repeated over the layer', (t) => {
  const values = numbers(6, 4);
  const config = { block_share: true, use_cayley_neumann: false };
  const block = denseCayley(skew(values), 4);
  assertBlocks(load(t, { [WEIGHT]: { shape: [1, 6], values } }, config)?.rotation, [block, block]);
});

test('COFT shrinks blocks to eps/√blocks', (t) => {
  const values = [...numbers(6, 5), 1e-3, 0, 0, 0, 0, 0];
  const config = { coft: true, eps: 0.1, use_cayley_neumann: false };
  const radius = 0.1 / Math.SQRT2;
  const first = skew(values.slice(0, 6));
  const shrunk = first.map((value) => (value * radius) / Math.hypot(...first));
  assertBlocks(load(t, { [WEIGHT]: { shape: [2, 6], values } }, config)?.rotation, [
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
  assertBlocks(operands?.rotation, [denseCayley(values.slice(0, 16), 4), denseCayley(values.slice(16), 4)]);
  assert.deepEqual([...(operands?.scale ?? [])], scale);
});

/** `oft_r` of the query (8 → 6) as releases to 0.13 save it, whose configuration has no block size. */
function loadOld(t: TestContext, shape: readonly number[], values: readonly number[], config: object = {}) {
  const tensors = { 'base_model.model.encoder.query.oft_r': { shape, values } };
  return load(t, tensors, { peft_version: undefined, oft_block_size: undefined, r: shape[0], ...config });
}

test('0.13 and before: the output is rotated', (t) => {
  const values = numbers(18, 8);
  const operands = loadOld(t, [2, 3, 3], values);
  assert.equal(operands?.rotation, undefined);
  assertBlocks(operands?.outputRotation, [
    denseCayley(values.slice(0, 9), 3),
    denseCayley(values.slice(9), 3),
  ]);
});

test('0.13 and before: the last block is cropped, which needs one dense block; more than needed are ignored', (t) => {
  // ⌈6/4⌉ = 2: three blocks of 2 fit 6 outputs, the fourth is left over.
  const spare = numbers(16, 9);
  const three = [0, 4, 8].map((from) => denseCayley(spare.slice(from, from + 4), 2));
  assertBlocks(loadOld(t, [4, 2, 2], spare)?.outputRotation, three);
  // Of two blocks of 4 for 7 outputs, one row and column are cropped.
  const modules: BaseModule[] = [
    { name: 'encoder.query', kind: 'linear', inFeatures: 4, outFeatures: 7, bias: null },
  ];
  for (const shared of [false, true]) {
    const values = numbers(shared ? 16 : 32, 10);
    const root = temporaryDirectory(t);
    const shape = [shared ? 1 : 2, 4, 4];
    const config = { peft_type: 'OFT', r: 2, block_share: shared };
    writeAdapter(root, 'a', { 'base_model.model.encoder.query.oft_r': { shape, values } }, config);
    const rotation = loadAdapter(loadContext(root, { modules }), 'a').operands.at(0)?.outputRotation;
    assert.equal(rotation?.blockSize, 7);
    const first = denseCayley(values.slice(0, 16), 4);
    const second = shared ? first : denseCayley(values.slice(16), 4);
    const dense = blockDiagonal([first, second], 4);
    const want = Array.from({ length: 49 }, (_, i) => dense[Math.floor(i / 7) * 8 + (i % 7)] as number);
    assertBlocks(rotation, [want]);
  }
});

test('0.13 and before: COFT limits the raw matrix to eps·b²/√blocks', (t) => {
  const values = numbers(18, 11);
  const limited = [0, 9].flatMap((from) => {
    const block = values.slice(from, from + 9);
    return block.map((value) => (value * 0.01 * 9) / Math.SQRT2 / Math.hypot(...block));
  });
  assertBlocks(loadOld(t, [2, 3, 3], values, { coft: true, eps: 0.01 })?.outputRotation, [
    denseCayley(limited.slice(0, 9), 3),
    denseCayley(limited.slice(9), 3),
  ]);
});

test('refused: blocks that are no OFT of 0.13', (t) => {
  const oft_r = 'oft_r';
  const odd = (shape: number[], config?: object) => () =>
    loadOld(t, shape, numbers(shape.reduce((size, n) => size * n, 1)), config);
  assert.throws(odd([2, 4, 4]), refusal('ADAPTER_SHAPE_MISMATCH', oft_r, '⌈6/r⌉'));
  assert.throws(odd([2, 3, 3], { block_share: true }), refusal('ADAPTER_SHAPE_MISMATCH', 'one block'));
  assert.throws(odd([1, 4, 4], { block_share: true }), refusal('ADAPTER_SHAPE_MISMATCH', oft_r));
  assert.throws(odd([2, 3, 2]), refusal('ADAPTER_SHAPE_MISMATCH', oft_r));
  // With a block size in the configuration the file is newer, and has lost its scale.
  assert.throws(odd([2, 4, 4], { oft_block_size: 4 }), refusal('ADAPTER_TENSOR_MISSING', 'oft_s'));
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

const EMBEDDING: BaseModule = { name: 'words', kind: 'embedding', inFeatures: 8, outFeatures: 8, bias: null };
const EMBEDDING_R = 'base_model.model.words.oft_embedding_R.weight';

function loadEmbedding(t: TestContext, tensors: Tensors, modules: readonly BaseModule[] = [EMBEDDING]) {
  const root = temporaryDirectory(t);
  const config = { peft_type: 'OFT', peft_version: '0.21.0', oft_block_size: 4, use_cayley_neumann: false };
  writeAdapter(root, 'a', tensors, config);
  return loadAdapter(loadContext(root, { modules }), 'a').operands.at(0);
}

test('the rows that an embedding looks up are rotated', (t) => {
  const values = numbers(12, 12);
  const operands = loadEmbedding(t, { [EMBEDDING_R]: { shape: [2, 6], values } });
  assert.equal(operands?.rotation, undefined);
  assertBlocks(operands?.outputRotation, [
    denseCayley(skew(values.slice(0, 6)), 4),
    denseCayley(skew(values.slice(6)), 4),
  ]);
});

test('refused: an embedding’s rotation elsewhere, anything else of an embedding', (t) => {
  const rotation = { shape: [2, 6], values: numbers(12) };
  const linear: BaseModule = { ...EMBEDDING, kind: 'linear' };
  assert.throws(
    () => loadEmbedding(t, { [EMBEDDING_R]: rotation }, [linear]),
    refusal('ADAPTER_PART_UNSUPPORTED', EMBEDDING_R, 'linear'),
  );
  const saved = 'base_model.model.words.weight';
  assert.throws(
    () => loadEmbedding(t, { [saved]: { shape: [9, 8], values: numbers(72) } }),
    refusal('ADAPTER_PART_UNSUPPORTED', saved, 'not replaced'),
  );
  const input = 'base_model.model.words.oft_R.weight';
  assert.throws(() => loadEmbedding(t, { [input]: rotation }), refusal('ADAPTER_PART_UNSUPPORTED', input));
});

test('a rotated embedding may carry its table, whose width is the base’s; it is compared where the base’s is', (t) => {
  const table = 'base_model.model.words.base_layer.weight';
  const tensors = (shape: number[]): Tensors => ({
    [EMBEDDING_R]: { shape: [2, 6], values: numbers(12) },
    [table]: { shape, values: numbers(72) },
  });
  assert.deepEqual([...(loadEmbedding(t, tensors([9, 8]))?.weight ?? [])], numbers(72));
  assert.throws(() => loadEmbedding(t, tensors([8, 9])), refusal('ADAPTER_SHAPE_MISMATCH', table));
  const { [table]: alone } = tensors([9, 8]);
  assert.ok(alone);
  assert.throws(
    () => loadEmbedding(t, { [table]: alone }),
    refusal('ADAPTER_TENSOR_MISSING', 'oft_embedding_R'),
  );
});
