/**
 * Proves the header of a safetensors file good before anything is allocated: every tensor's bytes lie inside the
 * file, belong to it alone, and are as many as its shape and type need.
 *
 * Layout: 8 bytes little-endian header length, JSON header, data. Offsets count from the start of the data.
 */
import { PapillonError } from '../errors.js';
import { findDuplicateKey } from './json-duplicates.js';

/** Longest header that is read, in bytes. */
export const MAX_HEADER_BYTES = 1024 * 1024;

/** Longest name of a tensor: matching module names costs time with their length. */
const MAX_NAME_CHARACTERS = 1024;

/** Bits of one element. */
const DTYPE_BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8],
  ['F4', 4],
  ['F6_E2M3', 6],
  ['F6_E3M2', 6],
  ['U8', 8],
  ['I8', 8],
  ['F8_E5M2', 8],
  ['F8_E4M3', 8],
  ['F8_E8M0', 8],
  ['F8_E4M3FNUZ', 8],
  ['F8_E5M2FNUZ', 8],
  ['I16', 16],
  ['U16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['I32', 32],
  ['U32', 32],
  ['F32', 32],
  ['C64', 64],
  ['F64', 64],
  ['I64', 64],
  ['U64', 64],
]);

export interface TensorEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** First byte and the byte behind the last, from the start of the data. */
  readonly begin: number;
  readonly end: number;
}

/**
 * The header's length in bytes, from the file's first 8.
 *
 * @throws PapillonError SAFETENSORS_TRUNCATED, SAFETENSORS_HEADER_TOO_LARGE
 */
export function readHeaderLength(prefix: Uint8Array, fileBytes: number): number {
  if (prefix.length < 8 || fileBytes < 8) {
    throw new PapillonError(
      'SAFETENSORS_TRUNCATED',
      `The weights file has ${fileBytes} bytes, fewer than the 8 of its header length.`,
    );
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new PapillonError(
      'SAFETENSORS_HEADER_TOO_LARGE',
      `The weights file declares a header of ${length} bytes; at most ${MAX_HEADER_BYTES} are read.`,
    );
  }
  if (8 + Number(length) > fileBytes) {
    throw new PapillonError(
      'SAFETENSORS_TRUNCATED',
      `The weights file declares a header of ${length} bytes but has only ${fileBytes} in all.`,
    );
  }
  return Number(length);
}

/**
 * The tensors that the header lists, by name in the order of their bytes.
 *
 * @param header the JSON, possibly padded with spaces.
 * @param dataBytes bytes of the file behind the header.
 * @throws PapillonError SAFETENSORS_HEADER_INVALID, _DUPLICATE_KEY, _DTYPE_UNKNOWN, _SIZE_MISMATCH,
 * _OFFSETS_INVALID, _OVERLAP, _GAP, _TRUNCATED, _TRAILING_BYTES
 */
export function parseHeader(header: Uint8Array, dataBytes: number): ReadonlyMap<string, TensorEntry> {
  const entries = Object.entries(parseObject(header))
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => parseEntry(name, value));
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const entry of entries) {
    if (entry.begin < covered) {
      throw new PapillonError(
        'SAFETENSORS_OVERLAP',
        `Tensor "${entry.name}" starts at byte ${entry.begin}, inside another tensor that ends at ${covered}.`,
      );
    }
    if (entry.begin > covered) {
      throw new PapillonError(
        'SAFETENSORS_GAP',
        `Bytes ${covered} to ${entry.begin}, before tensor "${entry.name}", belong to no tensor.`,
      );
    }
    if (entry.end > dataBytes) {
      throw new PapillonError(
        'SAFETENSORS_TRUNCATED',
        `Tensor "${entry.name}" ends at byte ${entry.end} but the file's data ends at ${dataBytes}.`,
      );
    }
    covered = entry.end;
  }
  if (covered < dataBytes) {
    throw new PapillonError(
      'SAFETENSORS_TRAILING_BYTES',
      `${dataBytes - covered} bytes follow the last tensor of the weights file.`,
    );
  }
  return new Map(entries.map((entry) => [entry.name, entry]));
}

function parseObject(header: Uint8Array): object {
  let text: string;
  let parsed: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new PapillonError('SAFETENSORS_HEADER_INVALID', 'The weights file’s header is not JSON in UTF-8.', {
      cause,
    });
  }
  if (!isObject(parsed) || !text.startsWith('{')) {
    throw new PapillonError('SAFETENSORS_HEADER_INVALID', 'The weights file’s header is not a JSON object.');
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) {
    throw new PapillonError(
      'SAFETENSORS_DUPLICATE_KEY',
      `The weights file’s header has the key "${duplicate}" twice.`,
    );
  }
  return parsed;
}

function parseEntry(name: string, value: unknown): TensorEntry {
  if (name.length > MAX_NAME_CHARACTERS) {
    throw new PapillonError(
      'SAFETENSORS_HEADER_INVALID',
      `A tensor's name has ${name.length} characters, beginning with "${name.slice(0, 64)}"; at most ${MAX_NAME_CHARACTERS} are read.`,
    );
  }
  const { dtype, shape, data_offsets: offsets } = isObject(value) ? (value as Record<string, unknown>) : {};
  if (typeof dtype !== 'string' || !isNumberArray(shape) || !isNumberArray(offsets)) {
    throw new PapillonError(
      'SAFETENSORS_HEADER_INVALID',
      `Tensor "${name}" needs "dtype" (text), "shape" and "data_offsets" (lists of numbers) in the header.`,
    );
  }
  const bits = DTYPE_BITS.get(dtype);
  if (bits === undefined) {
    throw new PapillonError(
      'SAFETENSORS_DTYPE_UNKNOWN',
      `Tensor "${name}" has the unknown dtype "${dtype}".`,
    );
  }
  const [begin = NaN, end = NaN] = offsets;
  if (offsets.length !== 2 || !offsets.every(isSize) || begin > end) {
    throw new PapillonError(
      'SAFETENSORS_OFFSETS_INVALID',
      `Tensor "${name}" has data_offsets [${offsets.join(', ')}]: expected two ascending non-negative integers.`,
    );
  }
  const bytes = byteLength(shape, bits);
  if (bytes === null || bytes !== end - begin) {
    throw new PapillonError(
      'SAFETENSORS_SIZE_MISMATCH',
      `Tensor "${name}" of shape [${shape.join(', ')}] and dtype ${dtype} needs ` +
        `${bytes ?? 'an impossible number of'} bytes, its data_offsets span ${end - begin}.`,
    );
  }
  return { name, dtype, shape, begin, end };
}

/** Null where the shape is no shape or the product leaves the safe integers. */
function byteLength(shape: readonly number[], bits: number): number | null {
  let total = bits;
  for (const size of shape) {
    if (!isSize(size)) return null;
    total *= size;
    if (!Number.isSafeInteger(total)) return null;
  }
  return total % 8 === 0 ? total / 8 : null;
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function isNumberArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
