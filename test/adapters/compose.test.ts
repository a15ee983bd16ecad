/** Composed adapters against dense products in the order of PEFT's forward pass. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { composeOperands, type ComposedPart } from '#dist/adapters/index.js';
import type { ModuleOperands, Rotation } from '#dist/types.js';
import { blockDiagonal, identity, multiply, type Matrix } from '../reference/dense-butterfly.js';
import { numbers, refusal } from './support.js';

const D = 24;

/** Any matrix will do: composing needs no orthogonality. */
function rotation(blockSize: number, seed: number): Rotation {
  return { blockSize, blocks: Float32Array.from(numbers(D * blockSize, seed)) };
}

function dense({ blockSize: e, blocks }: Rotation): Matrix {
  return blockDiagonal(
    Array.from({ length: D / e }, (_, k) => blocks.subarray(k * e * e, (k + 1) * e * e)),
    e,
  );
}

function assertSame(got: Rotation | undefined, want: Matrix): void {
  assert.ok(got !== undefined);
  const full = dense(got);
  want.forEach((value, i) => {
    assert.ok(Math.abs(value - (full[i] as number)) < 1e-5, `element ${i}`);
  });
}

function part(
  stacking: 'left' | 'right',
  operands: Omit<ModuleOperands, 'module'>,
  module = 'a',
): ComposedPart {
  return { stacking, operands: [{ module, ...operands }] };
}

function only(operands: readonly ModuleOperands[]): ModuleOperands {
  assert.equal(operands.length, 1);
  return operands[0] as ModuleOperands;
}

const anyPart = fc.record({
  size: fc.constantFrom(1, 2, 3, 4, 6, 8, 12, 24),
  seed: fc.integer({ min: 1, max: 99 }),
  stacking: fc.constantFrom('left' as const, 'right' as const),
});

test('rotations multiply in PEFT’s order: R · before for matrices, before · R for activations', () => {
  fc.assert(
    fc.property(fc.array(anyPart, { minLength: 2, maxLength: 4 }), (chosen) => {
      const rotations = chosen.map(({ size, seed }) => rotation(size, seed));
      const parts = chosen.map(({ stacking }, i) => part(stacking, { rotation: rotations[i] }));
      const want = chosen.reduce((before, { stacking }, i) => {
        const own = dense(rotations[i] as Rotation);
        return stacking === 'left' ? multiply(own, before, D) : multiply(before, own, D);
      }, identity(D));
      assertSame(only(composeOperands(parts)).rotation, want);
    }),
    { numRuns: 60, seed: 1 },
  );
});

test('blocks become as large as the least common multiple, no larger', () => {
  const composed = composeOperands([
    part('left', { rotation: rotation(4, 1) }),
    part('left', { rotation: rotation(6, 2) }),
  ]);
  assert.equal(only(composed).rotation?.blockSize, 12);
});

test('output rotations go from one to the next whatever the kind, scales multiply', () => {
  const [first, second] = [rotation(4, 1), rotation(8, 2)];
  const turned = composeOperands([
    part('left', { outputRotation: first }),
    part('left', { outputRotation: second }),
  ]);
  assertSame(only(turned).outputRotation, multiply(dense(first), dense(second), D));
  const scaled = composeOperands([
    part('left', { scale: Float32Array.of(2, 3) }),
    part('left', { rotation: first }),
    part('right', { scale: Float32Array.of(0.5, 4) }),
  ]);
  assert.deepEqual(only(scaled).scale, Float32Array.of(1, 12));
  assertSame(only(scaled).rotation, dense(first));
});

test('modules of one part alone stay as they are; a bias comes from the part that has one', () => {
  const bias = Float32Array.of(1, 2);
  const weight = Float32Array.of(1, 2, 3, 4);
  const composed = composeOperands([
    {
      stacking: 'left',
      operands: [
        { module: 'a', rotation: rotation(2, 1) },
        { module: 'head', weight },
      ],
    },
    {
      stacking: 'left',
      operands: [
        { module: 'a', bias },
        { module: 'b', bias },
      ],
    },
  ]);
  assert.deepEqual(
    composed.map(({ module }) => module),
    ['a', 'head', 'b'],
  );
  assert.equal(composed[0]?.bias, bias);
  assert.equal(composed[1]?.weight, weight);
  assert.deepEqual(composeOperands([]), []);
});

test('equal biases and weights of several parts are one', () => {
  const own = () => ({ weight: Float32Array.of(1, 2), bias: Float32Array.of(3) });
  const composed = only(composeOperands([part('left', own()), part('right', own())]));
  assert.deepEqual(composed, { module: 'a', ...own() });
});

test('refused: two biases, two weights, a replaced weight that another changes', () => {
  const both = (first: Omit<ModuleOperands, 'module'>, second: Omit<ModuleOperands, 'module'>) => () =>
    composeOperands([part('left', first, 'enc.x'), part('left', second, 'enc.x')]);
  const [one, two] = [Float32Array.of(1), Float32Array.of(2)];
  assert.throws(
    both({ bias: one }, { bias: two }),
    refusal('ADAPTER_PART_UNSUPPORTED', '"enc.x"', 'more than one of them brings a bias'),
  );
  assert.throws(
    both({ weight: one }, { weight: two }),
    refusal('ADAPTER_PART_UNSUPPORTED', '"enc.x"', 'more than one of them brings a weight'),
  );
  assert.throws(
    both({ weight: one }, { rotation: rotation(2, 1) }),
    refusal('ADAPTER_PART_UNSUPPORTED', '"enc.x"', 'replaces its weight'),
  );
  assert.throws(
    both({ outputRotation: rotation(2, 1) }, { scale: one }),
    refusal('ADAPTER_PART_UNSUPPORTED', '"enc.x"', 'no defined order'),
  );
});

test('refused before anything is computed: products larger than allowed', () => {
  const parts = [part('left', { rotation: rotation(8, 1) }), part('left', { rotation: rotation(3, 2) })];
  const bytes = 4 * D * D;
  assert.equal(only(composeOperands(parts, bytes)).rotation?.blocks.byteLength, bytes);
  assert.throws(() => composeOperands(parts, bytes - 1), refusal('ADAPTER_TOO_LARGE', String(bytes)));
});
