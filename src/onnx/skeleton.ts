/**
 * Reads an .onnx file without its weights: walks the protobuf wire format, skips the bytes of large
 * initializers where they lie and refers to them as external data of that very file. Memory use is that of the
 * graph alone, whatever the model's size (offsets are exact up to 2^53).
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { PapillonError } from '../errors.js';

/** Field numbers on the path to a weight: ModelProto.graph, GraphProto.initializer, TensorProto.*. */
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_RAW_DATA = 9;
const TENSOR_EXTERNAL_DATA = 13;
const TENSOR_DATA_LOCATION = 14;
/** TensorProto.DataLocation.EXTERNAL */
const EXTERNAL_LOCATION = 1;

const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;

/** Weights from this many bytes on stay in the file; smaller ones (shapes, scalars) are kept in memory. */
export const EXTERNAL_FROM_BYTES = 128;

/** One system call reads less than 2 GiB. */
const MAX_READ_BYTES = 1 << 30;
/** A protobuf message is shorter than 2 GiB: only weights, which are skipped, may lie beyond. */
const MAX_PART_BYTES = 2 ** 31 - 1;

/** Sequential reader over a file with one buffer; positions are absolute. */
class FileCursor {
  position = 0;
  private buffer = Buffer.alloc(1 << 18);
  private bufferStart = 0;
  private bufferLength = 0;

  constructor(
    private readonly fd: number,
    readonly size: number,
  ) {}

  byte(): number {
    const index = this.position - this.bufferStart;
    if (index < 0 || index >= this.bufferLength) {
      this.bufferStart = this.position;
      this.bufferLength = this.read(this.buffer, 0, this.buffer.length, this.position);
    }
    return this.buffer[this.position++ - this.bufferStart] as number;
  }

  /** Unsigned varint up to 2^53. */
  varint(): number {
    let value = 0;
    let factor = 1;
    for (let i = 0; i < 10; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
    throw new PapillonError(
      'BASE_UNREADABLE',
      'the model file is not a valid ONNX protobuf (endless varint)',
    );
  }

  bytes(length: number): Buffer {
    if (this.position + length > this.size || length > MAX_PART_BYTES) throw truncated();
    const out = Buffer.allocUnsafe(length);
    let done = 0;
    while (done < length) {
      done += this.read(out, done, length - done, this.position + done);
    }
    this.position += length;
    return out;
  }

  skip(length: number): void {
    if (this.position + length > this.size) throw truncated();
    this.position += length;
  }

  private read(target: Buffer, offset: number, length: number, position: number): number {
    let read: number;
    try {
      read = readSync(this.fd, target, offset, Math.min(length, MAX_READ_BYTES), position);
    } catch (error) {
      throw new PapillonError('BASE_UNREADABLE', 'the model file cannot be read: is it a file?', {
        cause: error,
      });
    }
    if (read === 0) throw truncated();
    return read;
  }
}

function truncated(): PapillonError {
  return new PapillonError('BASE_UNREADABLE', 'the model file is truncated or is not an ONNX file');
}

/** A message whose last field ran past its own end: its length, or the field's, is wrong. */
function checkEnd(cursor: FileCursor, end: number): void {
  if (cursor.position !== end) {
    throw new PapillonError(
      'BASE_UNREADABLE',
      'the model file is not a valid ONNX protobuf (a field is longer than its message)',
    );
  }
}

function encodeVarint(value: number): Buffer {
  const out: number[] = [];
  let rest = value;
  while (rest >= 128) {
    out.push((rest % 128) | 0x80);
    rest = Math.floor(rest / 128);
  }
  out.push(rest);
  return Buffer.from(out);
}

function lengthDelimited(field: number, ...parts: readonly Buffer[]): Buffer[] {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return [encodeVarint(field * 8 + WIRE_BYTES), encodeVarint(length), ...parts];
}

function stringEntry(key: string, value: string): Buffer[] {
  return lengthDelimited(
    TENSOR_EXTERNAL_DATA,
    ...lengthDelimited(1, Buffer.from(key)),
    ...lengthDelimited(2, Buffer.from(value)),
  );
}

/** Copies one field whose tag was just read. */
function copyField(cursor: FileCursor, tag: number): Buffer[] {
  const head = encodeVarint(tag);
  switch (tag % 8) {
    case WIRE_VARINT:
      return [head, encodeVarintField(cursor)];
    case WIRE_FIXED64:
      return [head, cursor.bytes(8)];
    case WIRE_FIXED32:
      return [head, cursor.bytes(4)];
    case WIRE_BYTES: {
      const length = cursor.varint();
      return [head, encodeVarint(length), cursor.bytes(length)];
    }
    default:
      throw new PapillonError(
        'BASE_UNREADABLE',
        'the model file is not a valid ONNX protobuf (unknown wire type)',
      );
  }
}

/** Copies a varint byte by byte: it may be a negative int64, which no double holds. */
function encodeVarintField(cursor: FileCursor): Buffer {
  const out: number[] = [];
  for (let i = 0; i < 10; i++) {
    const byte = cursor.byte();
    out.push(byte);
    if (byte < 0x80) return Buffer.from(out);
  }
  throw new PapillonError('BASE_UNREADABLE', 'the model file is not a valid ONNX protobuf (endless varint)');
}

function scanTensor(cursor: FileCursor, end: number, location: string): Buffer[] {
  const parts: Buffer[] = [];
  let isExternal = false;
  while (cursor.position < end) {
    const tag = cursor.varint();
    if (tag === TENSOR_RAW_DATA * 8 + WIRE_BYTES) {
      const length = cursor.varint();
      if (length >= EXTERNAL_FROM_BYTES) {
        const offset = cursor.position;
        cursor.skip(length);
        parts.push(
          ...stringEntry('location', location),
          ...stringEntry('offset', String(offset)),
          ...stringEntry('length', String(length)),
        );
        isExternal = true;
      } else {
        parts.push(encodeVarint(tag), encodeVarint(length), cursor.bytes(length));
      }
    } else {
      parts.push(...copyField(cursor, tag));
    }
  }
  checkEnd(cursor, end);
  // Last, since the file may say "default location" itself, and of two values the last one counts.
  if (isExternal) {
    parts.push(encodeVarint(TENSOR_DATA_LOCATION * 8 + WIRE_VARINT), encodeVarint(EXTERNAL_LOCATION));
  }
  return parts;
}

function scanGraph(cursor: FileCursor, end: number, location: string): Buffer[] {
  const parts: Buffer[] = [];
  while (cursor.position < end) {
    const tag = cursor.varint();
    if (tag === GRAPH_INITIALIZER * 8 + WIRE_BYTES) {
      const length = cursor.varint();
      parts.push(
        ...lengthDelimited(GRAPH_INITIALIZER, ...scanTensor(cursor, cursor.position + length, location)),
      );
    } else {
      parts.push(...copyField(cursor, tag));
    }
  }
  checkEnd(cursor, end);
  return parts;
}

/**
 * The bytes of a ModelProto equal to the file's, except that initializers of `EXTERNAL_FROM_BYTES` or more
 * refer to their bytes in the file as external data at `location`.
 *
 * Throws BASE_UNREADABLE when the file cannot be opened, is truncated or is no protobuf.
 */
export function readSkeleton(path: string, location: string): Uint8Array {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw new PapillonError('BASE_UNREADABLE', 'the model file cannot be opened', { cause: error });
  }
  try {
    const cursor = new FileCursor(fd, fstatSync(fd).size);
    const parts: Buffer[] = [];
    while (cursor.position < cursor.size) {
      const tag = cursor.varint();
      if (tag === MODEL_GRAPH * 8 + WIRE_BYTES) {
        const length = cursor.varint();
        if (cursor.position + length > cursor.size) throw truncated();
        parts.push(...lengthDelimited(MODEL_GRAPH, ...scanGraph(cursor, cursor.position + length, location)));
      } else {
        parts.push(...copyField(cursor, tag));
      }
    }
    return Buffer.concat(parts);
  } finally {
    closeSync(fd);
  }
}
