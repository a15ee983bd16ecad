/** Owns the agreement between a request's tensors and the model's description. Pure. */
import { PapillonError } from '../../errors.js';
import type { BatchLayout, ModelDescription, Tensor, TensorMap, TensorSpec } from '../../types.js';
import { decodeBinaryData, decodeText } from './binary-data.js';
import { bytesPerElement } from './datatypes.js';
import type { InferEnvelope, InputHeader, RawInput, RequestedOutput } from './envelope.js';
import { decodeJsonData } from './json-data.js';
import type { OpenInferenceLimits } from './limits.js';
import { quote, showShape } from './text.js';

function nameList(specs: readonly TensorSpec[]): string {
  return specs.map((spec) => spec.name).join(', ');
}

/**
 * Product of `shape`. Throws WRONG_SHAPE beyond the limit, and before anything is allocated for elements that
 * `available` bytes (an element takes one at least) cannot hold.
 */
function countElements(header: InputHeader, available: number, limits: OpenInferenceLimits): number {
  const count = header.shape.reduce((product, size) => product * size, 1);
  const where = `Input ${quote(header.name)}: shape ${showShape(header.shape)} has ${count} elements`;
  if (count > limits.maxElements) {
    throw new PapillonError('WRONG_SHAPE', `${where}, at most ${limits.maxElements} are accepted`);
  }
  if (count > available) {
    throw new PapillonError('WRONG_SHAPE', `${where}, more than the body can hold`);
  }
  return count;
}

function checkDatatype(header: InputHeader, spec: TensorSpec): void {
  if (header.datatype === spec.datatype) return;
  throw new PapillonError(
    'WRONG_DATATYPE',
    `Input ${quote(header.name)}: the model takes ${spec.datatype}, found ${header.datatype}`,
  );
}

/** Rank and fixed sizes; that the inputs agree with each other is checked where they join a batch. */
function checkShape(header: InputHeader, spec: TensorSpec): void {
  const wrong = (what: string): PapillonError =>
    new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(header.name)}: ${what}; the model takes ${showShape(spec.dims.map((dim) => dim || '?'))}, ` +
        `found ${showShape(header.shape)}`,
    );
  if (header.shape.length !== spec.dims.length) {
    throw wrong(`shape has ${header.shape.length} axes instead of ${spec.dims.length}`);
  }
  spec.dims.forEach((dim, axis) => {
    if (typeof dim === 'number' && header.shape[axis] !== dim) throw wrong(`axis ${axis} must be ${dim}`);
  });
}

function decodeNamed(
  headers: readonly InputHeader[],
  model: ModelDescription,
  bodyBytes: number,
  limits: OpenInferenceLimits,
): TensorMap {
  const specs = new Map(model.inputs.map((spec) => [spec.name, spec]));
  // Everything is checked before the first element is read.
  const checked = headers.map((header) => {
    const spec = specs.get(header.name);
    if (spec === undefined) {
      throw new PapillonError(
        'UNKNOWN_INPUT',
        `Input ${quote(header.name)} is not one of the model's: ${nameList(model.inputs)}`,
      );
    }
    checkDatatype(header, spec);
    checkShape(header, spec);
    return { header, count: countElements(header, bodyBytes, limits) };
  });
  const given = new Set(headers.map(({ name }) => name));
  const missing = model.inputs.find(({ name }) => !given.has(name));
  if (missing !== undefined) {
    throw new PapillonError(
      'MISSING_INPUT',
      `Input ${quote(missing.name)} is missing; the model takes: ${nameList(model.inputs)}`,
    );
  }
  return new Map(checked.map(({ header, count }) => [header.name, decodeTensor(header, count)]));
}

function decodeTensor(header: InputHeader, count: number): Tensor {
  const { datatype, shape, content } = header;
  const data =
    'bytes' in content
      ? decodeBinaryData(header, count, content.bytes)
      : decodeJsonData(header, count, content.json);
  return Object.freeze({ datatype, shape, data });
}

/** A raw BYTES tensor is one element, the body as it is. */
function decodeRawText(spec: TensorSpec, bytes: Uint8Array): TensorMap {
  if (spec.dims.some((dim) => typeof dim === 'number' && dim !== 1)) {
    throw new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(spec.name)}: a raw request holds one element of BYTES`,
    );
  }
  const shape = Object.freeze(spec.dims.map(() => 1));
  const data = [decodeText(spec.name, 0, bytes)];
  return new Map([[spec.name, Object.freeze({ datatype: 'BYTES', shape, data })]]);
}

/**
 * The shape of a raw request follows from its length: the leading axis of a stackable model is one row, and
 * at most one other axis may be variable.
 */
function deduceShape(
  spec: TensorSpec,
  width: number,
  layout: BatchLayout,
  byteLength: number,
): readonly number[] {
  const dims = spec.dims.map((dim, axis) => (axis === 0 && layout.stackable ? 1 : dim));
  if (dims.filter((dim) => typeof dim === 'string').length > 1) {
    throw new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(spec.name)}: the shape ${showShape(spec.dims)} cannot be told from a raw request's length; ` +
        'send the JSON header with a shape',
    );
  }
  const stride = dims.reduce<number>((bytes, dim) => (typeof dim === 'number' ? bytes * dim : bytes), width);
  if (stride === 0 || byteLength % stride !== 0) {
    throw new PapillonError(
      'WRONG_BINARY_LENGTH',
      `Input ${quote(spec.name)}: ${byteLength} bytes are not a whole number of ${stride}`,
    );
  }
  return Object.freeze(dims.map((dim) => (typeof dim === 'number' ? dim : byteLength / stride)));
}

/** A raw request names nothing: its body is the only input. */
function decodeRaw(raw: RawInput, model: ModelDescription, limits: OpenInferenceLimits): TensorMap {
  const spec = model.inputs.at(0);
  if (spec === undefined || model.inputs.length > 1) {
    throw new PapillonError(
      'INVALID_REQUEST',
      'A raw request (Inference-Header-Content-Length: 0) suits models with one input; this one takes: ' +
        nameList(model.inputs),
    );
  }
  const { name, datatype } = spec;
  if (datatype === 'BYTES') return decodeRawText(spec, raw.bytes);
  const byteLength = raw.bytes.byteLength;
  const shape = deduceShape(spec, bytesPerElement(datatype), model.layout, byteLength);
  return decodeNamed([{ name, datatype, shape, content: raw }], model, byteLength, limits);
}

/**
 * All inputs of the model, checked and owned by the caller. `bodyBytes` bounds what is allocated.
 * Throws UNKNOWN_INPUT, MISSING_INPUT, WRONG_DATATYPE, WRONG_SHAPE, WRONG_DATA, VALUE_OUT_OF_RANGE,
 * WRONG_BINARY_LENGTH, and INVALID_REQUEST for a raw request that the model cannot take.
 */
export function decodeInputs(
  envelope: InferEnvelope,
  model: ModelDescription,
  bodyBytes: number,
  limits: OpenInferenceLimits,
): TensorMap {
  const { inputs } = envelope;
  return inputs.kind === 'raw'
    ? decodeRaw(inputs, model, limits)
    : decodeNamed(inputs.list, model, bodyBytes, limits);
}

/** The outputs to answer with, in the order asked for (the model's without one). Throws UNKNOWN_OUTPUT. */
export function chooseOutputs(envelope: InferEnvelope, model: ModelDescription): readonly RequestedOutput[] {
  if (envelope.outputs === null) {
    return model.outputs.map(({ name }) => ({ name, binary: envelope.binaryOutputs }));
  }
  const known = new Set(model.outputs.map(({ name }) => name));
  const unknown = envelope.outputs.find(({ name }) => !known.has(name));
  if (unknown !== undefined) {
    throw new PapillonError(
      'UNKNOWN_OUTPUT',
      `Output ${quote(unknown.name)} is not one of the model's: ${nameList(model.outputs)}`,
    );
  }
  return envelope.outputs;
}
