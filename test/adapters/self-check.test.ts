/** The self-check accepts what loading computes and refuses anything else, for every form of a rotation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadAdapter } from '#dist/adapters/index.js';
import { computeBlocks } from '#dist/adapters/compute-rotation.js';
import type { RotationForm, RotationPlan } from '#dist/adapters/rotation-plan.js';
import type { TensorEntry } from '#dist/adapters/safetensors-header.js';
import { selfCheck } from '#dist/adapters/self-check.js';
import type { ModuleOperands } from '#dist/types.js';
import {
  boftConfig,
  loadContext,
  numbers,
  queryTensors,
  refusal,
  temporaryDirectory,
  writeAdapter,
} from './support.js';

const NAME = 'encoder.query';
const exact = { radius: null, coefficients: null };

interface Case {
  readonly form: RotationForm;
  readonly width: number;
  readonly blockSize: number;
  readonly side?: 'input' | 'output';
}

const CASES: Readonly<Record<string, Case>> = {
  'one factor': { form: { storage: 'squares', m: 1, stored: 3, b: 5, ...exact }, width: 15, blockSize: 5 },
  'two factors': { form: { storage: 'squares', m: 2, stored: 6, b: 4, ...exact }, width: 24, blockSize: 8 },
  'three factors': {
    form: { storage: 'squares', m: 3, stored: 8, b: 4, ...exact },
    width: 32,
    blockSize: 16,
  },
  'four factors, more blocks than are probed': {
    form: { storage: 'squares', m: 4, stored: 8 * 20, b: 2, ...exact },
    width: 320,
    blockSize: 16,
  },
  'a shared block': {
    form: { storage: 'squares', m: 1, stored: 1, b: 4, ...exact },
    width: 12,
    blockSize: 4,
  },
  'COFT of raw matrices': {
    form: { storage: 'squares', m: 1, stored: 3, b: 4, radius: 0.3, coefficients: null },
    width: 12,
    blockSize: 4,
  },
  triangles: { form: { storage: 'triangles', m: 1, stored: 2, b: 5, ...exact }, width: 10, blockSize: 5 },
  'a series, COFT': {
    form: { storage: 'triangles', m: 1, stored: 2, b: 6, radius: 0.8, coefficients: [1, 2, 2, 2, 1] },
    width: 12,
    blockSize: 6,
  },
  'cropped output': {
    form: { storage: 'squares', m: 1, stored: 3, b: 4, ...exact },
    width: 10,
    blockSize: 10,
    side: 'output',
  },
  'a cropped shared output': {
    form: { storage: 'squares', m: 1, stored: 1, b: 4, ...exact },
    width: 7,
    blockSize: 7,
    side: 'output',
  },
};

/** A rotation of a case with values of its own, computed as loading does. */
function compute({ form, width, blockSize, side = 'input' }: Case, strength: number) {
  const { storage, m, stored, b } = form;
  const values = Float32Array.from(
    numbers(m * stored * (storage === 'squares' ? b * b : (b * (b - 1)) / 2), 3),
  );
  const tensor: TensorEntry = {
    name: `${NAME}.tensor`,
    dtype: 'F32',
    shape: [values.length],
    begin: 4,
    end: 4 + values.byteLength,
  };
  // Not where a float array could begin.
  const data = new Uint8Array(5 + values.byteLength).subarray(1);
  data.set(new Uint8Array(values.buffer), 4);
  const plan: RotationPlan = { tensor, form, width, blockSize, side, maxResidual: 1, stacking: 'left' };
  const blocks = computeBlocks(plan, values, strength);
  assert.ok(blocks !== null);
  const base = { name: NAME, kind: 'linear' as const, inFeatures: width, outFeatures: width };
  const check = (served: Float32Array) => {
    const rotation = { blockSize, blocks: served };
    const operands: ModuleOperands =
      side === 'input' ? { module: NAME, rotation } : { module: NAME, outputRotation: rotation };
    const module = { plan: { base, rotation: plan, scale: null, bias: null, weight: null }, operands };
    selfCheck([module], data, strength);
  };
  return { blocks, check };
}

for (const [name, given] of Object.entries(CASES)) {
  test(`passes what was computed, at any strength, and nothing else: ${name}`, () => {
    for (const strength of [1, 0.5, -2]) {
      const { blocks, check } = compute(given, strength);
      check(blocks);
      const failed = refusal('ADAPTER_SELF_CHECK_FAILED', `"${NAME}.tensor"`);
      const e = given.blockSize;
      const transposed = blocks.map((_, i) => {
        const row = Math.floor(i / e);
        return blocks[(row - (row % e) + (i % e)) * e + (row % e)] as number;
      });
      assert.throws(() => {
        check(transposed);
      }, failed);
      assert.throws(() => {
        check(blocks.map((value, i) => (i === blocks.length - 1 ? value + 0.01 : value)));
      }, failed);
      assert.throws(() => {
        check(blocks.map((value, i) => (i === 1 ? NaN : value)));
      }, failed);
    }
  });
}

test('a rotation computed at another strength fails', () => {
  const { blocks } = compute(CASES['two factors'] as Case, 0.9);
  const { check } = compute(CASES['two factors'] as Case, 1);
  assert.throws(() => {
    check(blocks);
  }, refusal('ADAPTER_SELF_CHECK_FAILED'));
});

test('every float type is read, and scales are checked', (t) => {
  const root = temporaryDirectory(t);
  const tensors = queryTensors();
  const S = `base_model.model.${NAME}.boft_s`;
  const bits = {
    F16: [0x3c00, 0x3e00, 0xbc00, 0x3800, 0x3c01, 0],
    BF16: [0x3f80, 0x3fc0, 0xbf80, 0x3f00, 0x3f81, 0],
  };
  for (const dtype of ['F16', 'BF16'] as const) {
    writeAdapter(root, dtype, { ...tensors, [S]: { shape: [6, 1], values: bits[dtype], dtype } });
    assert.ok(
      Math.abs((loadAdapter(loadContext(root), dtype, 0.5).operands[0]?.scale?.[1] ?? 0) - 1.25) < 1e-6,
    );
  }
  const R = `base_model.model.${NAME}.boft_R`;
  writeAdapter(root, 'F64', { ...tensors, [R]: { shape: [2, 4, 2, 2], values: numbers(32), dtype: 'F64' } });
  assert.equal(loadAdapter(loadContext(root), 'F64').operands.length, 1);
  const values = Float32Array.of(1, 2, 3);
  const tensor: TensorEntry = { name: S, dtype: 'F32', shape: [3, 1], begin: 0, end: 12 };
  const base = { name: NAME, kind: 'linear' as const, inFeatures: 3, outFeatures: 3 };
  const plan = { base, rotation: null, scale: tensor, bias: null, weight: null };
  const check = (scale?: Float32Array) => () => {
    selfCheck(
      [{ plan, operands: { module: NAME, ...(scale && { scale }) } }],
      new Uint8Array(values.buffer),
      1,
    );
  };
  check(values)();
  assert.throws(check(Float32Array.of(1, 2, 3.01)), refusal('ADAPTER_SELF_CHECK_FAILED', S));
  assert.throws(check(), refusal('ADAPTER_SELF_CHECK_FAILED', S));
});

test('it can be left out, with the same result', (t) => {
  const root = temporaryDirectory(t);
  writeAdapter(root, 'a', queryTensors(), boftConfig());
  const load = (selfCheck?: boolean) =>
    loadAdapter(loadContext(root, selfCheck === undefined ? {} : { selfCheck }), 'a');
  assert.deepEqual(load(false), load());
  assert.deepEqual(load(true), load());
});
