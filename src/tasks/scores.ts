/**
 * Owns the way from a row of logits to scores. Pure; computes in float64.
 */
import { PapillonError } from '../errors.js';
import type { Tensor } from '../types.js';

/** How logits become scores: one label of several, each label for itself, or the bare value (regression). */
export type Activation = 'softmax' | 'sigmoid' | 'none';

/** The value of an IEEE 754 half-precision bit pattern. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** exp(xᵢ − max x) / Σⱼ exp(xⱼ − max x). */
export function softmax(logits: Float64Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((x) => Math.exp(x - max));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/** 1 / (1 + exp(−xᵢ)), which neither overflows nor gives NaN for any finite x. */
export function sigmoid(logits: Float64Array): Float64Array {
  return logits.map((x) => 1 / (1 + Math.exp(-x)));
}

/** The logits of a tensor of shape [1, n] or [n], FP16, FP32 or FP64. Throws INFERENCE_FAILED otherwise. */
export function readLogits(tensor: Tensor): Float64Array {
  const { data, datatype, shape } = tensor;
  const isFloat = datatype === 'FP16' || datatype === 'FP32' || datatype === 'FP64';
  const isRow = shape.length === 1 || (shape.length === 2 && shape[0] === 1);
  if (!isFloat || !isRow || data.length === 0) {
    const got = `${datatype} [${shape.join(', ')}]`;
    throw new PapillonError('INFERENCE_FAILED', `The model's logits are ${got}, not one row of floats`);
  }
  // The datatype tells that the elements are numbers.
  const values = Float64Array.from(data as ArrayLike<number>);
  const logits = datatype === 'FP16' ? values.map(halfToNumber) : values;
  if (!logits.every(Number.isFinite)) {
    throw new PapillonError('INFERENCE_FAILED', "The model's logits are not finite for this text");
  }
  return logits;
}

export function activate(logits: Float64Array, activation: Activation): Float64Array {
  if (activation === 'none') return logits;
  return activation === 'softmax' ? softmax(logits) : sigmoid(logits);
}
