/** Owns what the protocol's datatypes are made of: widths, arrays and integer ranges. Pure. */
import { DATATYPES } from '../../types.js';
import type { Datatype, NumericArray } from '../../types.js';

export type NumericDatatype = Exclude<Datatype, 'BYTES'>;

export interface NumericArrayConstructor {
  new (length: number): NumericArray;
  new (buffer: ArrayBuffer, byteOffset: number, length: number): NumericArray;
  readonly BYTES_PER_ELEMENT: number;
}

const CONSTRUCTORS: Readonly<Record<NumericDatatype, NumericArrayConstructor>> = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

export function arrayConstructor(datatype: NumericDatatype): NumericArrayConstructor {
  return CONSTRUCTORS[datatype];
}

export function bytesPerElement(datatype: NumericDatatype): number {
  return CONSTRUCTORS[datatype].BYTES_PER_ELEMENT;
}

/** Inclusive bounds of the integer types. */
export const INTEGER_RANGES = {
  UINT8: [0, 0xff],
  UINT16: [0, 0xffff],
  UINT32: [0, 0xffff_ffff],
  INT8: [-0x80, 0x7f],
  INT16: [-0x8000, 0x7fff],
  INT32: [-0x8000_0000, 0x7fff_ffff],
} as const satisfies Partial<Record<NumericDatatype, readonly [number, number]>>;

export const BIG_INTEGER_RANGES = {
  INT64: [-(2n ** 63n), 2n ** 63n - 1n],
  UINT64: [0n, 2n ** 64n - 1n],
} as const satisfies Partial<Record<NumericDatatype, readonly [bigint, bigint]>>;

export function isDatatype(value: unknown): value is Datatype {
  return DATATYPES.some((datatype) => datatype === value);
}
