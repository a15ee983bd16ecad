import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { PapillonError } from '#dist/errors.js';
import { activate, halfToNumber, readLogits, sigmoid, softmax } from '#dist/tasks/scores.js';
import type { Tensor } from '#dist/types.js';

const finite = fc.double({ noNaN: true, noDefaultInfinity: true });

describe('activations', () => {
  it('softmax adds up to 1 and keeps the order, even for huge logits', () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 1, maxLength: 20 }), (values) => {
        const scores = softmax(Float64Array.from(values));
        assert.ok(Math.abs(scores.reduce((a, b) => a + b, 0) - 1) < 1e-12);
        values.forEach((a, i) => {
          values.forEach((b, j) => {
            assert.ok(a <= b || (scores[i] ?? 0) >= (scores[j] ?? 0));
          });
        });
      }),
    );
    assert.deepEqual(
      [...softmax(Float64Array.of(0, Math.log(3)))].map((x) => x.toFixed(12)),
      ['0.250000000000', '0.750000000000'],
    );
  });

  it('sigmoid stays between 0 and 1 and is 1/2 at 0', () => {
    fc.assert(
      fc.property(finite, (value) => {
        const [score = NaN] = sigmoid(Float64Array.of(value));
        assert.ok(score >= 0 && score <= 1);
      }),
    );
    assert.equal(sigmoid(Float64Array.of(0))[0], 0.5);
  });

  it('none leaves the values as they are', () => {
    assert.deepEqual([...activate(Float64Array.of(-3, 7), 'none')], [-3, 7]);
  });
});

describe('halfToNumber', () => {
  it('reads normal, subnormal and special values', () => {
    const cases: [number, number][] = [
      [0x0000, 0],
      [0x8000, -0],
      [0x3c00, 1],
      [0xc000, -2],
      [0x3555, 0.333251953125],
      [0x7bff, 65504],
      [0x0001, 2 ** -24],
      [0x03ff, 1023 * 2 ** -24],
      [0x7c00, Infinity],
      [0xfc00, -Infinity],
      [0x7e00, NaN],
    ];
    for (const [bits, value] of cases) assert.equal(halfToNumber(bits), value, bits.toString(16));
  });
});

describe('readLogits', () => {
  it('reads FP32, FP64 and FP16, as [n] or [1, n]', () => {
    const tensors: Tensor[] = [
      { datatype: 'FP32', shape: [1, 2], data: Float32Array.of(1, -2) },
      { datatype: 'FP64', shape: [2], data: Float64Array.of(1, -2) },
      { datatype: 'FP16', shape: [1, 2], data: Uint16Array.of(0x3c00, 0xc000) },
    ];
    for (const tensor of tensors) assert.deepEqual([...readLogits(tensor)], [1, -2]);
  });

  const refused: [string, Tensor, RegExp][] = [
    ['several rows', { datatype: 'FP32', shape: [2, 1], data: new Float32Array(2) }, /FP32 \[2, 1\]/],
    ['integers', { datatype: 'INT64', shape: [1, 1], data: new BigInt64Array(1) }, /INT64 \[1, 1\]/],
    ['no labels', { datatype: 'FP32', shape: [1, 0], data: new Float32Array(0) }, /FP32 \[1, 0\]/],
    ['NaN', { datatype: 'FP32', shape: [1, 2], data: Float32Array.of(1, NaN) }, /not finite/],
    ['infinity', { datatype: 'FP16', shape: [1, 1], data: Uint16Array.of(0x7c00) }, /not finite/],
  ];
  for (const [name, tensor, message] of refused) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => readLogits(tensor),
        (error: unknown) =>
          error instanceof PapillonError && error.code === 'INFERENCE_FAILED' && message.test(error.message),
      );
    });
  }
});
