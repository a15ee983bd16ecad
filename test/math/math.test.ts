/** Properties of the rotation mathematics, against the dense float64 reference. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  bfloat16ToFloat32,
  blockProduct,
  butterflyPermutation,
  cayley,
  embedBlocks,
  float16ToNumber,
  isButterfly,
  isSymmetric,
  largestResidual,
  mergeWeight,
  multiplyBlocks,
  orthogonalityResidual,
  polynomial,
  productBlockSize,
  rotateRows,
  unpackSkew,
} from '#dist/math/index.js';
import {
  blockDiagonal,
  denseCayley,
  denseRotation,
  diagonalBlocks,
  identity,
  inverse,
  multiply,
} from '../reference/dense-butterfly.js';

const value = fc.double({ min: -4, max: 4, noNaN: true });
const numbers = (length: number) => fc.array(value, { minLength: length, maxLength: length });

function maxDifference(got: ArrayLike<number>, want: ArrayLike<number>): number {
  assert.equal(got.length, want.length);
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    worst = Math.max(worst, Math.abs((got[i] as number) - (want[i] as number)));
  }
  return worst;
}

/** m, D, b of a butterfly and its raw parameters. */
const butterfly = fc
  .record({
    m: fc.integer({ min: 1, max: 4 }),
    groups: fc.integer({ min: 1, max: 2 }),
    half: fc.integer({ min: 1, max: 3 }),
  })
  .chain(({ m, groups, half }) => {
    const D = groups * 2 ** (m - 1);
    const b = 2 * half;
    return fc.record({ m: fc.constant(m), D: fc.constant(D), b: fc.constant(b), a: numbers(m * D * b * b) });
  });

test('Cayley of any blocks equals the dense definition and is orthogonal, at any strength', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }).chain((b) => fc.record({ b: fc.constant(b), a: numbers(2 * b * b) })),
      fc.double({ min: -3, max: 3, noNaN: true }),
      ({ b, a }, strength) => {
        const q = cayley(Float64Array.from(a), 2, b, strength);
        for (const k of [0, 1]) {
          const block = a.slice(k * b * b, (k + 1) * b * b);
          assert.ok(
            maxDifference(q.subarray(k * b * b, (k + 1) * b * b), denseCayley(block, b, strength)) < 1e-10,
          );
        }
        assert.ok(orthogonalityResidual(q, 2, b) < 1e-10);
      },
    ),
    { numRuns: 60, seed: 1 },
  );
});

test('Cayley of large entries, which need pivots, equals the dense definition', () => {
  for (const scale of [60, 70, 1e3, 1e6]) {
    const a = Float64Array.from({ length: 2 * 25 }, (_, i) => scale * Math.sin(3 * i * i + 1));
    const q = cayley(a, 2, 5);
    assert.ok(maxDifference(q.subarray(25), denseCayley(a.slice(25), 5)) < 1e-9);
    assert.ok(orthogonalityResidual(q, 2, 5) < 1e-9);
  }
});

test('the largest residual is that of the worst block, wherever it is', () => {
  const good = cayley(
    Float64Array.from({ length: 6 * 16 }, (_, i) => Math.sin(i * i)),
    6,
    4,
  );
  for (let k = 0; k < 6; k++) {
    const blocks = new Float32Array(good);
    blocks[k * 16 + 6] = (blocks[k * 16 + 6] as number) + 0.25;
    assert.equal(largestResidual(blocks, 6, 4), orthogonalityResidual(blocks, 6, 4));
    blocks[k * 16 + 3] = NaN;
    assert.equal(largestResidual(blocks, 6, 4), Infinity);
  }
  assert.ok(largestResidual(new Float32Array(good), 6, 4) < 1e-6);
  assert.equal(largestResidual(new Float32Array(0), 0, 4), 0);
});

test('block-diagonals of different sizes multiply as dense matrices', () => {
  const blocksOf = (size: number, seed: number) =>
    Float64Array.from({ length: 12 * size }, (_, i) => Math.sin(seed * (i + 1)));
  const dense = (blocks: Float64Array, size: number) =>
    blockDiagonal(
      Array.from({ length: 12 / size }, (_, k) => blocks.subarray(k * size * size, (k + 1) * size * size)),
      size,
    );
  for (const [a, b, e] of [
    [2, 3, 6],
    [4, 6, 12],
    [3, 3, 3],
    [1, 4, 4],
  ] as const) {
    const [left, right] = [blocksOf(a, 1.3), blocksOf(b, 2.1)];
    const product = multiplyBlocks(left, a, right, b, 12);
    assert.ok(maxDifference(dense(product, e), multiply(dense(left, a), dense(right, b), 12)) < 1e-12);
  }
  assert.throws(() => multiplyBlocks(blocksOf(2, 1), 2, blocksOf(5, 1), 5, 12), RangeError);
});

test('Cayley of a symmetric block is the identity', () => {
  const a = Float64Array.of(1, 2, 2, 5);
  assert.ok(isSymmetric(a, 1, 2));
  assert.deepEqual([...cayley(a, 1, 2)], [1, 0, 0, 1]);
  assert.equal(isSymmetric(Float64Array.of(1, 2, 3, 5), 1, 2), false);
});

test('Cayley has the documented sign: A = [[0, 1], [−1, 0]] is the quarter turn [[0, −1], [1, 0]]', () => {
  assert.deepEqual(
    [...cayley(Float64Array.of(0, 1, -1, 0), 1, 2)].map((v) => v + 0),
    [0, -1, 1, 0],
  );
});

test('Cayley of entries beyond float64 comes back as NaN, and its residual as Infinity', () => {
  const q = cayley(Float64Array.of(0, Infinity, 0, 0), 1, 2);
  assert.ok(q.every(Number.isNaN));
  assert.equal(orthogonalityResidual(q, 1, 2), Infinity);
});

test('the block product equals the product of explicit permutations and block-diagonals', () => {
  fc.assert(
    fc.property(butterfly, fc.constantFrom(1, 0.5, -2), ({ m, D, b, a }, strength) => {
      const e = productBlockSize(b, m);
      const product = blockProduct(cayley(Float64Array.from(a), m * D, b, strength), m, D, b);
      const { blocks, outside } = diagonalBlocks(denseRotation(a, m, D, b, strength), D * b, e);
      assert.ok(outside < 1e-12, 'nothing outside the blocks of e');
      // Summed in float64, stored in float32.
      assert.ok(maxDifference(product, blocks) < 1e-7);
      assert.ok(orthogonalityResidual(product, (D * b) / e, e) < 1e-6);
    }),
    { numRuns: 40, seed: 2 },
  );
});

test('an odd block size is a butterfly of one factor only', () => {
  assert.ok(isButterfly(1, 3, 9));
  assert.equal(isButterfly(2, 4, 9), false);
  assert.equal(isButterfly(2, 1, 64), false);
  assert.equal(isButterfly(3, 6, 4), false);
  assert.throws(() => blockProduct(new Float64Array(18), 2, 1, 3), RangeError);
  assert.throws(() => blockProduct(new Float64Array(5), 1, 1, 2), RangeError);
});

test('permutations of level 2 differ from their inverse', () => {
  assert.deepEqual([...butterflyPermutation(0, 3)], [0, 1, 2]);
  assert.deepEqual([...butterflyPermutation(1, 2)], [0, 2, 1, 3]);
  assert.deepEqual([...butterflyPermutation(2, 2)], [0, 2, 4, 6, 1, 3, 5, 7]);
});

test('rotating by embedded blocks equals rotating by the blocks, bit for bit', () => {
  fc.assert(
    fc.property(
      fc.constantFrom([2, 4], [3, 6], [4, 16], [5, 5]),
      fc.array(fc.float({ min: -2, max: 2, noNaN: true }), { minLength: 16 * 16, maxLength: 16 * 16 }),
      ([e, E], raw) => {
        const count = (2 * E) / e;
        const blocks = Float32Array.from({ length: count * e * e }, (_, i) => raw[i % raw.length] as number);
        const x = Float32Array.from({ length: 3 * count * e }, (_, i) => raw[(7 * i) % raw.length] as number);
        const large = embedBlocks(blocks, count, e, E);
        assert.equal(large.length, 2 * E * E);
        assert.deepEqual(rotateRows(x, 3, large, 2, E), rotateRows(x, 3, blocks, count, e));
      },
    ),
    { numRuns: 40, seed: 3 },
  );
});

test('blocks cannot be embedded where sizes do not divide', () => {
  assert.throws(() => embedBlocks(new Float32Array(2 * 9), 2, 3, 4), RangeError);
  assert.throws(() => embedBlocks(new Float32Array(3 * 4), 3, 2, 4), RangeError);
  assert.throws(() => rotateRows(new Float32Array(3), 1, new Float32Array(4), 1, 2), RangeError);
});

test('a row vector is multiplied from the left: y = x R', () => {
  const y = rotateRows(Float32Array.of(1, 0, 0, 1), 1, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), 2, 2);
  assert.deepEqual([...y], [1, 2, 7, 8]);
});

test('rotating rows equals the dense product', () => {
  const blocks = Float32Array.from({ length: 18 }, (_, i) => Math.fround(Math.sin(i)));
  const dense = blockDiagonal([blocks.subarray(0, 9), blocks.subarray(9)], 3);
  const y = rotateRows(Float32Array.from(identity(6)), 6, blocks, 2, 3);
  assert.ok(maxDifference(y, dense) < 1e-7);
});

test('packed triangles unpack row by row, without a factor', () => {
  assert.deepEqual([...unpackSkew(Float32Array.of(1, 2, 3), 1, 3)], [0, 1, 2, -1, 0, 3, -2, -3, 0]);
  assert.throws(() => unpackSkew(new Float32Array(4), 1, 3), RangeError);
});

test('the Neumann series approximates (I + Q)(I − Q)⁻¹', () => {
  const q = unpackSkew(Float64Array.of(0.01, -0.02, 0.015), 1, 3);
  const one = identity(3);
  const exact = multiply(
    one.map((v, i) => v + (q[i] as number)),
    inverse(
      one.map((v, i) => v - (q[i] as number)),
      3,
    ),
    3,
  );
  assert.ok(maxDifference(polynomial(q, 1, 3, [1, 2, 2, 2, 2]), exact) < 1e-7);
  const squares = multiply(q, q, 3);
  const direct = one.map((v, i) => v + 2 * (q[i] as number) + (squares[i] as number));
  assert.ok(maxDifference(polynomial(q, 1, 3, [1, 2, 1]), direct) < 1e-15);
});

test('the series equals powers written out, for any block size and number of terms', () => {
  for (const b of [1, 2, 3, 4, 7, 8, 9]) {
    const packed = Float64Array.from({ length: b * (b - 1) }, (_, i) => Math.sin(i * i + b));
    const skew = unpackSkew(packed, 2, b);
    for (const coefficients of [
      [1],
      [1, 2],
      [1, 2, 1],
      [1, 2, 2, 1],
      [1, 2, 2, 2, 2],
      [3, -1, 0, 2, 1, 5, 7],
    ]) {
      const got = polynomial(skew, 2, b, coefficients);
      for (const k of [0, 1]) {
        const s = skew.slice(k * b * b, (k + 1) * b * b);
        const want = new Float64Array(b * b);
        let power = identity(b);
        for (const c of coefficients) {
          power.forEach((value, i) => (want[i] = (want[i] as number) + c * value));
          power = multiply(power, s, b);
        }
        const scale = want.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
        assert.ok(maxDifference(got.subarray(k * b * b, (k + 1) * b * b), want) < 1e-13 * scale * b);
      }
    }
  }
});

test('16-bit floats widen exactly', () => {
  assert.equal(float16ToNumber(0x3c00), 1);
  assert.equal(float16ToNumber(0xc000), -2);
  assert.equal(float16ToNumber(0x0001), 2 ** -24);
  assert.equal(float16ToNumber(0x7bff), 65504);
  assert.equal(float16ToNumber(0xfc00), -Infinity);
  assert.ok(Number.isNaN(float16ToNumber(0x7e00)));
  assert.deepEqual([...bfloat16ToFloat32(Uint16Array.of(0x3f80, 0xc040, 0x7f80))], [1, -3, Infinity]);
});

test('a merged weight does what rotating the input and scaling the output do', () => {
  const [out, count, e, rows] = [5, 3, 4, 2];
  const random = (length: number, seed: number) =>
    Float32Array.from({ length }, (_, i) => Math.sin(seed * (i + 1) * 1.7));
  const [w, r, s, x] = [random(out * 12, 1), random(count * e * e, 2), random(out, 3), random(rows * 12, 4)];
  const product = (input: Float32Array, weight: Float32Array, row: number, o: number) =>
    Array.from(
      { length: 12 },
      (_, i) => (input[row * 12 + i] as number) * (weight[o * 12 + i] as number),
    ).reduce((a, b) => a + b, 0);
  const merged = mergeWeight(w, out, { size: e, data: r }, s);
  const rotated = rotateRows(x, rows, r, count, e);
  for (let row = 0; row < rows; row++) {
    for (let o = 0; o < out; o++) {
      assert.ok(Math.abs(product(x, merged, row, o) - (s[o] as number) * product(rotated, w, row, o)) < 1e-4);
    }
  }
  assert.deepEqual(mergeWeight(w, out, null, null), w);
});
