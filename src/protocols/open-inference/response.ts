/**
 * Owns the answer to an inference request: JSON, then the raw bytes of the outputs asked for in binary. Long
 * tensors become JSON piece by piece, so that the caller can let other requests in between. JSON has no
 * infinities and no NaN: such elements are written as null (binary outputs carry them as they are). Pure.
 */
import { PapillonError } from '../../errors.js';
import type { Datatype, Tensor, TensorMap } from '../../types.js';
import { encodeBinaryData } from './binary-data.js';
import type { RequestedOutput } from './envelope.js';
import { fromHalfBits } from './float16.js';

/** Elements that become JSON at a time: about a millisecond of work. */
const PIECE_ELEMENTS = 8192;

export interface InferAnswer {
  readonly modelName: string;
  /** Left out where null. */
  readonly modelVersion: string | null;
  /** The request's id; left out where null. */
  readonly id: string | null;
  readonly outputs: TensorMap;
}

export interface EncodedAnswer {
  readonly contentType: 'application/json' | 'application/octet-stream';
  /** Value of Inference-Header-Content-Length, null for an answer in JSON alone. */
  readonly jsonBytes: number | null;
  /** Length of all parts, null where they are made as they are read. */
  readonly byteLength: number | null;
  /** To be read once. */
  readonly parts: Iterable<string | Uint8Array>;
}

/** Elements `start` to `end` as JSON without the brackets. */
function encodeElements(tensor: Tensor, start: number, end: number): string {
  const { data, datatype } = tensor;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    return data.subarray(start, end).join(',');
  }
  const piece: Iterable<string | number> = ArrayBuffer.isView(data)
    ? data.subarray(start, end)
    : data.slice(start, end);
  return JSON.stringify(Array.from(piece, converterFor(datatype))).slice(1, -1);
}

function converterFor(datatype: Datatype): (element: string | number) => string | number | boolean {
  if (datatype === 'BOOL') return (element) => element !== 0;
  if (datatype === 'FP16') return (element) => fromHalfBits(Number(element));
  return (element) => element;
}

function* encodeData(tensor: Tensor): Generator<string> {
  const { length } = tensor.data;
  yield '[';
  for (let start = 0; start < length; start += PIECE_ELEMENTS) {
    const elements = encodeElements(tensor, start, Math.min(start + PIECE_ELEMENTS, length));
    yield start === 0 ? elements : `,${elements}`;
  }
  yield ']';
}

function findTensor(outputs: TensorMap, name: string): Tensor {
  const tensor = outputs.get(name);
  if (tensor === undefined) throw new PapillonError('INTERNAL', `The model returned no output named ${name}`);
  return tensor;
}

interface NamedOutput {
  readonly name: string;
  readonly tensor: Tensor;
  /** Raw bytes, null for an output in JSON. */
  readonly bytes: Uint8Array | null;
}

function* encodeJson(answer: InferAnswer, outputs: readonly NamedOutput[]): Generator<string> {
  const head = {
    model_name: answer.modelName,
    ...(answer.modelVersion === null ? {} : { model_version: answer.modelVersion }),
    ...(answer.id === null ? {} : { id: answer.id }),
  };
  yield `${JSON.stringify(head).slice(0, -1)},"outputs":[`;
  let separator = '';
  for (const { name, tensor, bytes } of outputs) {
    const { datatype, shape } = tensor;
    const parameters = bytes === null ? {} : { parameters: { binary_data_size: bytes.byteLength } };
    const entry = JSON.stringify({ name, datatype, shape, ...parameters }).slice(0, -1);
    yield `${separator}${entry}`;
    separator = ',';
    if (bytes === null) {
      yield ',"data":';
      yield* encodeData(tensor);
    }
    yield '}';
  }
  yield ']}';
}

/** `chosen` names outputs that `answer.outputs` holds; throws INTERNAL otherwise. */
export function encodeInferAnswer(answer: InferAnswer, chosen: readonly RequestedOutput[]): EncodedAnswer {
  const outputs = chosen.map(({ name, binary }): NamedOutput => {
    const tensor = findTensor(answer.outputs, name);
    return { name, tensor, bytes: binary ? encodeBinaryData(tensor) : null };
  });
  const raw = outputs.flatMap(({ bytes }) => (bytes === null ? [] : [bytes]));
  const jsonElements = outputs.reduce((sum, { tensor, bytes }) => sum + (bytes ? 0 : tensor.data.length), 0);
  const json = encodeJson(answer, outputs);
  if (raw.length === 0 && jsonElements > PIECE_ELEMENTS) {
    return { contentType: 'application/json', jsonBytes: null, byteLength: null, parts: json };
  }
  // The length of the JSON must be known before its first byte is sent.
  const whole = Buffer.from([...json].join(''));
  const byteLength = raw.reduce((sum, bytes) => sum + bytes.byteLength, whole.byteLength);
  return raw.length === 0
    ? { contentType: 'application/json', jsonBytes: null, byteLength, parts: [whole] }
    : {
        contentType: 'application/octet-stream',
        jsonBytes: whole.byteLength,
        byteLength,
        parts: [whole, ...raw],
      };
}
