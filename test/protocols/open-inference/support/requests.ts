/** Models and requests that the codec's tests share. */
import assert from 'node:assert/strict';
import { PapillonError } from '#dist/errors.js';
import type { ErrorCode } from '#dist/errors.js';
import { decodeInputs, DEFAULT_LIMITS, openInferRequest } from '#dist/protocols/open-inference/index.js';
import type { InferEnvelope } from '#dist/protocols/open-inference/index.js';
import type { Datatype, ModelDescription, Tensor, TensorMap, TensorSpec } from '#dist/types.js';

export function modelOf(inputs: readonly TensorSpec[], stackable = true): ModelDescription {
  return {
    id: 'base',
    digest: 'd'.repeat(64),
    inputs,
    outputs: [
      { name: 'logits', datatype: 'FP32', dims: ['batch', 2] },
      { name: 'states', datatype: 'FP16', dims: ['batch', 'sequence'] },
    ],
    layout: { stackable, paddedAxis: null },
    modules: [],
  };
}

/** A model with the one input `x`. */
export function modelTaking(
  datatype: Datatype,
  dims: readonly (number | string)[] = ['batch'],
): ModelDescription {
  return modelOf([{ name: 'x', datatype, dims }]);
}

export function open(body: string | Uint8Array, jsonBytes: number | null = null): InferEnvelope {
  return openInferRequest(Buffer.from(body), jsonBytes, DEFAULT_LIMITS);
}

export function decode(
  model: ModelDescription,
  body: string | Uint8Array,
  jsonBytes: number | null = null,
): TensorMap {
  return decodeInputs(open(body, jsonBytes), model, Buffer.byteLength(body), DEFAULT_LIMITS);
}

/** Body with the one input `x`; `data` is JSON text. */
export function bodyWith(datatype: string, shape: readonly unknown[], data: string): string {
  return `{"inputs":[{"name":"x","datatype":"${datatype}","shape":${JSON.stringify(shape)},"data":${data}}]}`;
}

/** `x` decoded from JSON text `data`. */
export function decodeX(datatype: Datatype, shape: readonly number[], data: string): Tensor {
  const dims = shape.map((_, axis) => `axis${axis}`);
  const tensor = decode(modelTaking(datatype, dims), bodyWith(datatype, shape, data)).get('x');
  assert.ok(tensor);
  return tensor;
}

/** JSON header, then raw tensors; returns the body and the header's length. */
export function binaryBody(header: object, ...tensors: Uint8Array[]): [Buffer, number] {
  const json = Buffer.from(JSON.stringify(header));
  return [Buffer.concat([json, ...tensors]), json.byteLength];
}

export function assertRefused(action: () => unknown, code: ErrorCode, message?: RegExp): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof PapillonError, String(error));
    assert.equal(error.code, code, error.message);
    if (message !== undefined) assert.match(error.message, message);
    return true;
  });
}
