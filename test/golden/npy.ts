/** Reads the arrays of the reference cases: NumPy's .npy files, little-endian, C order. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

export interface NpyArray {
  readonly datatype: string;
  readonly shape: readonly number[];
  /** Flat, row-major. Token ids and masks fit a double. */
  readonly data: readonly number[];
}

type Reader = readonly [datatype: string, read: (buffer: ArrayBuffer) => ArrayLike<number | bigint>];

const READERS: Readonly<Partial<Record<string, Reader>>> = {
  '<f4': ['FP32', (buffer) => new Float32Array(buffer)],
  '<f8': ['FP64', (buffer) => new Float64Array(buffer)],
  '<i8': ['INT64', (buffer) => new BigInt64Array(buffer)],
  '<i4': ['INT32', (buffer) => new Int32Array(buffer)],
  '|b1': ['BOOL', (buffer) => new Uint8Array(buffer)],
};

export function readNpy(file: string): NpyArray {
  const bytes = readFileSync(file);
  const headerLength = bytes.readUInt16LE(8);
  const header = bytes.toString('latin1', 10, 10 + headerLength);
  const reader = READERS[/'descr': '([^']+)'/.exec(header)?.[1] ?? ''];
  assert.ok(reader, `${file}: ${header}`);
  const sizes = /'shape': \(([^)]*)\)/.exec(header)?.[1] ?? '';
  const shape = sizes.split(',').flatMap((size) => (size.trim() === '' ? [] : [Number(size)]));
  const data = Uint8Array.from(bytes.subarray(10 + headerLength)).buffer;
  return { datatype: reader[0], shape, data: Array.from(reader[1](data), Number) };
}
