/**
 * Owns the frame of an inference request: where JSON ends and raw tensors begin, and everything beside the
 * tensors' elements. Fields that the protocol does not know are ignored. Pure.
 */
import { PapillonError } from '../../errors.js';
import type { Datatype } from '../../types.js';
import { isDatatype } from './datatypes.js';
import { field, isJsonObject, parseJson } from './json.js';
import type { JsonObject, JsonValue } from './json.js';
import type { OpenInferenceLimits } from './limits.js';
import { Parameters } from './parameters.js';
import { quote } from './text.js';

/** An input whose elements are not read yet. */
export interface InputHeader {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly content: { readonly json: JsonValue } | { readonly bytes: Uint8Array };
}

export interface RequestedOutput {
  readonly name: string;
  readonly binary: boolean;
}

export interface InferEnvelope {
  readonly id: string | null;
  /** `parameters.adapter_id` */
  readonly adapterId: string | null;
  /** `parameters.strength`, finite */
  readonly strength: number | null;
  /** How long the client wants to wait, from `parameters.timeout_ms` or `parameters.timeout`. */
  readonly timeoutMs: number | null;
  /** `raw`: the body is nothing but the elements of the model's only input. */
  readonly inputs: { readonly kind: 'named'; readonly list: readonly InputHeader[] } | RawInput;
  /** null: all outputs. */
  readonly outputs: readonly RequestedOutput[] | null;
  /** Outputs that say nothing of their own are wanted as raw bytes. */
  readonly binaryOutputs: boolean;
}

export interface RawInput {
  readonly kind: 'raw';
  readonly bytes: Uint8Array;
}

function invalid(message: string): PapillonError {
  return new PapillonError('INVALID_REQUEST', message);
}

/** Hands out the raw tensors that follow the JSON, in order. */
class BinaryTail {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(name: string, size: number): Uint8Array {
    const end = this.#offset + size;
    if (end > this.#bytes.byteLength) {
      const left = this.#bytes.byteLength - this.#offset;
      throw new PapillonError(
        'WRONG_BINARY_LENGTH',
        `Input ${quote(name)}: binary_data_size is ${size}, but only ${left} bytes are left in the body`,
      );
    }
    const taken = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return taken;
  }

  finish(): void {
    const left = this.#bytes.byteLength - this.#offset;
    if (left === 0) return;
    throw new PapillonError(
      'WRONG_BINARY_LENGTH',
      `${left} bytes follow the tensors announced by binary_data_size; the sizes must add up to the body`,
    );
  }
}

function readName(object: JsonObject, where: string): string {
  const name = field(object, 'name');
  if (typeof name !== 'string' || name === '') throw invalid(`${where}.name must be a non-empty string`);
  return name;
}

function readShape(object: JsonObject, name: string, limits: OpenInferenceLimits): readonly number[] {
  const shape = field(object, 'shape');
  const isSize = (size: JsonValue): size is number => Number.isSafeInteger(size) && (size as number) >= 0;
  if (!Array.isArray(shape)) throw invalid(`Input ${quote(name)}: shape must be a list of sizes`);
  const sizes = shape as readonly JsonValue[];
  if (sizes.length > limits.maxRank) {
    throw new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(name)}: shape has ${sizes.length} axes, at most ${limits.maxRank} are accepted`,
    );
  }
  if (!sizes.every(isSize)) {
    throw new PapillonError(
      'WRONG_SHAPE',
      `Input ${quote(name)}: sizes in shape must be whole numbers from 0 up`,
    );
  }
  return Object.freeze([...sizes]);
}

function readDatatype(object: JsonObject, name: string): Datatype {
  const datatype = field(object, 'datatype');
  if (isDatatype(datatype)) return datatype;
  const found = typeof datatype === 'string' ? quote(datatype) : 'none';
  throw new PapillonError(
    'WRONG_DATATYPE',
    `Input ${quote(name)}: datatype must be one of the protocol's (INT64, FP32, BOOL, BYTES, …), found ${found}`,
  );
}

function readInput(
  value: JsonValue,
  index: number,
  tail: BinaryTail | null,
  limits: OpenInferenceLimits,
): InputHeader {
  const where = `inputs[${index}]`;
  if (!isJsonObject(value)) throw invalid(`${where} must be an object`);
  const name = readName(value, where);
  const shape = readShape(value, name, limits);
  const datatype = readDatatype(value, name);
  const parameters = Parameters.of(value, `Input ${quote(name)}: parameters`);
  parameters.refuseSharedMemory();
  const size = parameters.size('binary_data_size');
  const data = field(value, 'data');
  if (size === null) {
    if (data === undefined) {
      throw new PapillonError(
        'WRONG_DATA',
        `Input ${quote(name)}: neither data nor binary_data_size is given`,
      );
    }
    return { name, datatype, shape, content: { json: data } };
  }
  if (data !== undefined) {
    throw new PapillonError(
      'WRONG_DATA',
      `Input ${quote(name)}: give either data or binary_data_size, not both`,
    );
  }
  if (tail === null) {
    throw new PapillonError(
      'WRONG_BINARY_LENGTH',
      `Input ${quote(name)} has binary_data_size: send the header Inference-Header-Content-Length with the ` +
        'length of the JSON part',
    );
  }
  return { name, datatype, shape, content: { bytes: tail.take(name, size) } };
}

function readOutput(value: JsonValue, index: number, binaryOutputs: boolean): RequestedOutput {
  const where = `outputs[${index}]`;
  if (!isJsonObject(value)) throw invalid(`${where} must be an object`);
  const name = readName(value, where);
  const parameters = Parameters.of(value, `Output ${quote(name)}: parameters`);
  parameters.refuseSharedMemory();
  if (parameters.has('classification')) {
    throw new PapillonError(
      'UNSUPPORTED',
      `Output ${quote(name)}: classification is not offered; read the scores, or use POST /v1/classify`,
    );
  }
  return { name, binary: parameters.boolean('binary_data') ?? binaryOutputs };
}

/** Null where the field is absent. */
function readList(object: JsonObject, key: string, limits: OpenInferenceLimits): readonly JsonValue[] | null {
  const value = field(object, key);
  if (value === undefined) return null;
  if (!Array.isArray(value)) throw invalid(`${key} must be a list`);
  if (value.length > limits.maxTensors) {
    throw invalid(`${key} has ${value.length} entries, at most ${limits.maxTensors} are accepted`);
  }
  return value as readonly JsonValue[];
}

function refuseDuplicates(kind: string, list: readonly { readonly name: string }[]): void {
  const seen = new Set<string>();
  for (const { name } of list) {
    if (seen.has(name)) throw invalid(`${kind} ${quote(name)} is given twice`);
    seen.add(name);
  }
}

function rawEnvelope(body: Uint8Array): InferEnvelope {
  return {
    id: null,
    adapterId: null,
    strength: null,
    timeoutMs: null,
    inputs: { kind: 'raw', bytes: body },
    outputs: null,
    binaryOutputs: true,
  };
}

/**
 * Reads a request's frame. `jsonBytes` is the value of Inference-Header-Content-Length, null without it;
 * 0 makes the whole body the elements of the model's only input, and all outputs binary.
 * Throws INVALID_JSON, INVALID_REQUEST, WRONG_SHAPE (rank, sizes), WRONG_DATATYPE (not of the protocol),
 * WRONG_DATA (no data), WRONG_BINARY_LENGTH, UNSUPPORTED.
 */
export function openInferRequest(
  body: Uint8Array,
  jsonBytes: number | null,
  limits: OpenInferenceLimits,
): InferEnvelope {
  if (jsonBytes === 0) return rawEnvelope(body);
  if (jsonBytes !== null && jsonBytes > body.byteLength) {
    throw new PapillonError(
      'WRONG_BINARY_LENGTH',
      `Inference-Header-Content-Length is ${jsonBytes}, but the body has ${body.byteLength} bytes`,
    );
  }
  const root = parseJson(jsonBytes === null ? body : body.subarray(0, jsonBytes));
  if (!isJsonObject(root)) throw invalid('The body must be an object with a list of inputs');
  const id = field(root, 'id') ?? null;
  if (id !== null && typeof id !== 'string') throw invalid('id must be a string');
  const parameters = Parameters.of(root, 'parameters');
  const binaryOutputs = parameters.boolean('binary_data_output') ?? false;

  const tail = jsonBytes === null ? null : new BinaryTail(body.subarray(jsonBytes));
  const listed = readList(root, 'inputs', limits);
  if (listed === null) throw invalid('inputs is missing: give a list of tensors');
  const inputs = listed.map((input, index) => readInput(input, index, tail, limits));
  tail?.finish();
  refuseDuplicates('Input', inputs);

  const outputs =
    readList(root, 'outputs', limits)?.map((output, index) => readOutput(output, index, binaryOutputs)) ?? [];
  refuseDuplicates('Output', outputs);
  return {
    id,
    adapterId: parameters.text('adapter_id'),
    strength: parameters.number('strength'),
    timeoutMs: parameters.timeoutMs(),
    inputs: { kind: 'named', list: inputs },
    outputs: outputs.length === 0 ? null : outputs,
    binaryOutputs,
  };
}
