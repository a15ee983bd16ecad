/**
 * Finds out by running the base what its graph does not say: at which sites the rows of a batch can be told apart,
 * whether outputs can be split by rows, and whether padding is really masked. Rows 0 and 1 are run alone and
 * together; where the stacked run equals the two single runs laid one behind the other, rows are separable.
 */
import type { Tensor as OrtTensor } from 'onnxruntime-node';
import type { TensorSpec } from '../types.js';
import { toOrtTensor } from './session.js';
import type { Session } from './session.js';

export interface ProbedValue {
  readonly rank: number;
  readonly half: boolean;
  readonly separable: boolean;
}

export interface ProbeResult {
  readonly values: ReadonlyMap<string, ProbedValue>;
  readonly stackable: boolean;
  readonly paddedAxis: string | null;
  /** Output name → index of the axis that has the padded length. */
  readonly paddedOutputs: ReadonlyMap<string, number>;
}

/** Relative to the largest magnitude of the compared values. */
const TOLERANCE = 1e-3;
const LENGTH = 3;
const PADDED_LENGTH = 5;
const DEFAULT_SIZE = 32;

/** A small linear congruential generator: probes must be the same at every start. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Size of a variable dimension: `past_length + sequence_length` is the sum of its parts. */
function sizeOf(name: string, sequenceAxis: string | null, length: number): number {
  if (name === sequenceAxis) return length;
  if (name.includes('+')) {
    return name.split('+').reduce((sum, part) => sum + sizeOf(part.trim(), sequenceAxis, length), 0);
  }
  if (/past/i.test(name)) return 2;
  if (/seq|length|tokens/i.test(name)) return length;
  return DEFAULT_SIZE;
}

interface Row {
  readonly seed: number;
  readonly length: number;
  /** Real tokens; the rest up to `length` is padding. */
  readonly valid: number;
}

type Feeds = Record<string, OrtTensor>;
/** What a run gave, by name. */
type Values = Readonly<Partial<Record<string, OrtTensor>>>;

function makeRow(
  spec: TensorSpec,
  row: Row,
  sequenceAxis: string | null,
): { dims: number[]; data: number[] } {
  const random = generator(row.seed * 7919 + spec.name.length);
  const dims = spec.dims
    .slice(1)
    .map((d) => (typeof d === 'number' ? d : sizeOf(d, sequenceAxis, row.length)));
  const count = dims.reduce((product, size) => product * size, 1);
  const data: number[] = [];
  for (let i = 0; i < count; i++) {
    const position = dims.length > 0 ? i % (dims[dims.length - 1] ?? 1) : 0;
    const draw = random();
    if (/mask/i.test(spec.name)) data.push(position < row.valid ? 1 : 0);
    else if (position >= row.valid && sequenceAxis !== null && spec.dims[1] === sequenceAxis) data.push(0);
    else if (/position/i.test(spec.name)) data.push(position);
    else if (/token_type|segment/i.test(spec.name)) data.push(0);
    else if (spec.datatype.startsWith('FP')) data.push(draw * 2 - 1);
    else if (spec.datatype === 'BOOL') data.push(1);
    else data.push(1 + Math.floor(draw * 4));
  }
  return { dims, data };
}

function typedArray(spec: TensorSpec, values: readonly number[]): Parameters<typeof toOrtTensor>[0]['data'] {
  switch (spec.datatype) {
    case 'INT64':
      return BigInt64Array.from(values.map(BigInt));
    case 'UINT64':
      return BigUint64Array.from(values.map(BigInt));
    case 'INT32':
      return Int32Array.from(values);
    case 'FP64':
      return Float64Array.from(values);
    case 'FP16':
      // Bit patterns of ±[0.5, 1): the exponent of 0.5 and a fraction of ten bits.
      return Uint16Array.from(
        values,
        (v) => (v < 0 ? 0x8000 : 0) | 0x3800 | (Math.floor(Math.abs(v) * 1024) & 0x3ff),
      );
    case 'INT8':
      return Int8Array.from(values);
    case 'INT16':
      return Int16Array.from(values);
    case 'UINT16':
      return Uint16Array.from(values);
    case 'UINT32':
      return Uint32Array.from(values);
    case 'BOOL':
    case 'UINT8':
      return Uint8Array.from(values);
    case 'BYTES':
      return values.map(() => 'probe');
    default:
      return Float32Array.from(values);
  }
}

/** Row i of a fixed leading axis: the first row's kind with content of its own. */
function nth(rows: readonly Row[], i: number): Row {
  const row = rows[0] ?? { seed: 1, length: LENGTH, valid: LENGTH };
  return { ...row, seed: row.seed + 31 * i };
}

function makeFeeds(inputs: readonly TensorSpec[], rows: readonly Row[], sequenceAxis: string | null): Feeds {
  const feeds: Feeds = {};
  for (const spec of inputs) {
    const size = spec.dims[0];
    // A fixed leading axis wants its size whatever the number of rows probed; a scalar has none.
    const fixed = typeof size === 'number' ? size : 1;
    const wanted = typeof size === 'string' ? rows : Array.from({ length: fixed }, (_, i) => nth(rows, i));
    const parts = wanted.map((row) => makeRow(spec, row, sequenceAxis));
    const data = typedArray(
      spec,
      parts.flatMap((part) => part.data),
    );
    feeds[spec.name] = toOrtTensor({
      datatype: spec.datatype,
      shape: spec.dims.length === 0 ? [] : [wanted.length, ...(parts[0]?.dims ?? [])],
      data,
    });
  }
  return feeds;
}

function numbers(tensor: OrtTensor | undefined): Float64Array | null {
  if (!tensor || tensor.type === 'string') return null;
  return Float64Array.from(tensor.data as ArrayLike<number | bigint>, Number);
}

function isClose(a: Float64Array, aStart: number, b: Float64Array): boolean {
  let scale = 1e-6;
  for (const value of b) scale = Math.max(scale, Math.abs(value));
  for (let i = 0; i < b.length; i++) {
    const difference = Math.abs((a[aStart + i] as number) - (b[i] as number));
    if (!(difference <= TOLERANCE * scale)) return false;
  }
  return true;
}

function isSeparable(
  both: OrtTensor | undefined,
  first: OrtTensor | undefined,
  second: OrtTensor | undefined,
): boolean {
  const [x, r0, r1] = [numbers(both), numbers(first), numbers(second)];
  if (!x || !r0 || !r1) return false;
  // Rows of unequal sizes (padding dropped inside the model) could not be cut into lanes.
  if (r0.length !== r1.length || x.length !== 2 * r0.length) return false;
  return isClose(x, 0, r0) && isClose(x, r0.length, r1);
}

/** The axis that attention_mask masks, if another input has it too (a cache's total length is the mask's alone). */
function maskedAxis(inputs: readonly TensorSpec[]): string | null {
  const mask = inputs.find((input) => input.name === 'attention_mask');
  const axis = mask?.dims[1];
  if (mask?.dims.length !== 2 || typeof axis !== 'string' || axis === '') return null;
  const shared = inputs.some((input) => input !== mask && input.dims[1] === axis);
  return shared ? axis : null;
}

/** Drops what lies beyond `length` on `axis` and compares with the unpadded output. */
function equalsTrimmed(padded: OrtTensor, plain: OrtTensor, axis: number | undefined): boolean {
  const [a, b] = [numbers(padded), numbers(plain)];
  if (!a || !b) return false;
  if (axis === undefined) return a.length === b.length && isClose(a, 0, b);
  const inner = plain.dims.slice(axis + 1).reduce((product, size) => product * size, 1);
  const outer = plain.dims.slice(0, axis).reduce((product, size) => product * size, 1);
  const kept = inner * (plain.dims[axis] ?? 1);
  const stride = inner * (padded.dims[axis] ?? 1);
  for (let i = 0; i < outer; i++) {
    if (!isClose(a.subarray(i * stride, i * stride + kept), 0, b.subarray(i * kept, (i + 1) * kept)))
      return false;
  }
  return true;
}

function isSame(a: OrtTensor | undefined, b: OrtTensor | undefined): boolean {
  const [x, y] = [numbers(a), numbers(b)];
  if (!x || !y) return x === y;
  return x.length === y.length && (x.every((value, i) => Object.is(value, y[i])) || isClose(x, 0, y));
}

/**
 * Whether two sessions of one model give the same outputs on made-up inputs. True also where those inputs do not fit
 * the model: then nothing can be said.
 */
export async function computesTheSame(
  original: Session,
  other: Session,
  inputs: readonly TensorSpec[],
): Promise<boolean> {
  const feeds = makeFeeds(inputs, [{ seed: 1, length: LENGTH, valid: LENGTH }], maskedAxis(inputs));
  let expected: Values;
  try {
    expected = await original.run(feeds);
  } catch {
    return true;
  }
  const outputs = await other.run(feeds);
  return Object.keys(expected).every((name) => isSame(outputs[name], expected[name]));
}

/**
 * Probes a session whose outputs are the graph's own plus the `values` exposed by the pass of that name.
 * Rejects with what ONNX Runtime says when the made-up inputs do not fit the model.
 */
export async function probe(
  session: Session,
  inputs: readonly TensorSpec[],
  outputs: readonly TensorSpec[],
  values: readonly string[],
): Promise<ProbeResult> {
  const axis = maskedAxis(inputs);
  const run = (rows: readonly Row[]): Promise<Values> => session.run(makeFeeds(inputs, rows, axis));
  const row0: Row = { seed: 1, length: LENGTH, valid: LENGTH };
  const row1: Row = { seed: 2, length: LENGTH, valid: axis === null ? LENGTH : LENGTH - 1 };
  const first = await run([row0]);
  const variableRows = inputs.every((input) => typeof input.dims[0] === 'string');
  const second = variableRows ? await run([row1]) : undefined;
  const both = variableRows ? await run([row0, row1]) : undefined;

  const probed = new Map<string, ProbedValue>();
  for (const name of values) {
    const rank = first[name]?.dims.length ?? 0;
    probed.set(name, {
      rank,
      half: first[name]?.type === 'float16',
      separable: isSeparable(both?.[name], first[name], second?.[name]),
    });
  }
  const stackable =
    variableRows &&
    inputs.length > 0 &&
    outputs.every(
      (output) =>
        both?.[output.name]?.dims[0] === 2 &&
        isSeparable(both[output.name], first[output.name], second?.[output.name]),
    );
  const paddedOutputs = new Map<string, number>();
  let paddedAxis: string | null = null;
  if (axis !== null && stackable) {
    const padded = await run([{ seed: 1, length: PADDED_LENGTH, valid: LENGTH }]);
    for (const output of outputs) {
      const at = padded[output.name]?.dims.findIndex(
        (size, i) => i > 0 && size === PADDED_LENGTH && first[output.name]?.dims[i] === LENGTH,
      );
      if (at !== undefined && at > 0) paddedOutputs.set(output.name, at);
    }
    const masked = outputs.every((output) => {
      const [a, b] = [padded[output.name], first[output.name]];
      return a !== undefined && b !== undefined && equalsTrimmed(a, b, paddedOutputs.get(output.name));
    });
    if (masked) paddedAxis = axis;
  }
  return { values: probed, stackable, paddedAxis, paddedOutputs };
}
