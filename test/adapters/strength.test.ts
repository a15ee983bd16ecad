/** Adapters between the base (0) and the checkpoint (1), and beyond. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { loadAdapter } from '#dist/adapters/index.js';
import { denseRotation, diagonalBlocks, identity, multiply } from '../reference/dense-butterfly.js';
import {
  boftConfig,
  loadContext,
  numbers,
  queryTensors,
  refusal,
  temporaryDirectory,
  writeAdapter,
  type Tensors,
} from './support.js';

const R = 'base_model.model.encoder.query.boft_R';
const S = 'base_model.model.encoder.query.boft_s';

function load(t: TestContext, tensors: Tensors, strength: number, config = boftConfig()) {
  const root = temporaryDirectory(t);
  writeAdapter(root, 'a', tensors, config);
  return loadAdapter(loadContext(root), 'a', strength);
}

function assertClose(got: ArrayLike<number> | undefined, want: ArrayLike<number>): void {
  assert.equal(got?.length, want.length);
  for (let i = 0; i < want.length; i++) {
    assert.ok(Math.abs((got[i] as number) - (want[i] as number)) < 1e-6, `element ${i}`);
  }
}

test('R(α) = Cayley(αS) and 1 + α(s − 1), orthogonal at any strength; the version is the files’', (t) => {
  const tensors = queryTensors();
  const values = Array.from(tensors[R]?.values ?? []);
  const scale = Array.from(tensors[S]?.values ?? []);
  const { digest } = load(t, tensors, 1);
  fc.assert(
    fc.property(fc.integer({ min: -30, max: 30 }), (tenths) => {
      fc.pre(tenths !== 0);
      const strength = tenths / 10;
      const loaded = load(t, tensors, strength);
      const [operands] = loaded.operands;
      const want = diagonalBlocks(denseRotation(values, 2, 4, 2, strength), 8, 4).blocks;
      assertClose(operands?.rotation?.blocks, want);
      assertClose(
        operands?.scale,
        scale.map((s) => 1 + strength * (s - 1)),
      );
      assert.ok(loaded.residual < 1e-6);
      assert.equal(loaded.digest, digest);
    }),
    { numRuns: 20, seed: 1 },
  );
});

test('strength 1 is the checkpoint to the bit', (t) => {
  const tensors = queryTensors(3);
  assert.deepEqual([...(load(t, tensors, 1).operands[0]?.scale ?? [])], Array.from(tensors[S]?.values ?? []));
});

test('a series takes the scaled matrix with its own coefficients', (t) => {
  const v = numbers(6, 2, 0.2);
  const key = 'base_model.model.encoder.query.oft_R.weight';
  const config = { peft_type: 'OFT', peft_version: '0.21.0', oft_block_size: 4, block_share: true };
  const [operands] = load(t, { [key]: { shape: [1, 6], values: v } }, 0.5, config).operands;
  const [a, b, c, d, e, f] = v.map((value) => value / 2) as [number, number, number, number, number, number];
  const q = Float64Array.of(0, a, b, c, -a, 0, d, e, -b, -d, 0, f, -c, -e, -f, 0);
  let power = identity(4);
  const sum = new Float64Array(16);
  for (const coefficient of [1, 2, 2, 2, 1]) {
    power.forEach((value, i) => (sum[i] = (sum[i] as number) + coefficient * value));
    power = multiply(power, q, 4);
  }
  assertClose(operands?.rotation?.blocks.subarray(0, 16), sum);
});

test('biases and heads stay as saved, except at 0, which is the base; there too the files are checked', (t) => {
  const tensors: Tensors = {
    ...queryTensors(),
    'base_model.model.encoder.query.base_layer.bias': { shape: [6], values: numbers(6, 4) },
    'base_model.model.classifier.weight': { shape: [3, 6], values: numbers(18, 5) },
  };
  const half = load(t, tensors, 0.5).operands;
  assert.deepEqual([...(half[0]?.bias ?? [])], numbers(6, 4));
  assert.deepEqual([...(half[1]?.weight ?? [])], numbers(18, 5));
  const none = load(t, tensors, 0);
  assert.deepEqual(none.operands, []);
  assert.equal(none.bytes, 0);
  assert.equal(none.residual, 0);
  assert.deepEqual(none.moduleNames, ['encoder.query', 'classifier']);
  const damaged = { ...tensors, [S]: { shape: [6, 1], values: [1, 1, NaN, 1, 1, 1] } };
  assert.throws(() => load(t, damaged, 0), refusal('ADAPTER_NOT_FINITE', S));
});
