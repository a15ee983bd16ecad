/**
 * Owns the raw bytes of the binary tensor extension: little-endian, row-major, BOOL one byte, BYTES framed by
 * 4-byte lengths. Typed arrays are little-endian on every machine that ONNX Runtime is published for.
 */
import { isUtf8 } from 'node:buffer';
import { PapillonError } from '../../errors.js';
import type { Datatype, NumericArray, Tensor } from '../../types.js';
import { arrayConstructor, bytesPerElement } from './datatypes.js';
import type { NumericDatatype } from './datatypes.js';
import { quote } from './text.js';

const LENGTH_BYTES = 4;

interface BinaryInput {
  readonly name: string;
  readonly datatype: Datatype;
}

/** UTF-8 text of an element. Throws WRONG_DATA for other bytes. */
export function decodeText(name: string, index: number, bytes: Uint8Array): string {
  if (!isUtf8(bytes)) {
    throw new PapillonError('WRONG_DATA', `Input ${quote(name)}: element ${index} is not valid UTF-8`);
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

function decodeFramedText(name: string, count: number, bytes: Uint8Array): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Each element takes its length at least, so nothing is allocated for elements that cannot be there.
  if (count * LENGTH_BYTES > bytes.byteLength) throw wrongFrames(name, count, bytes.byteLength);
  const elements = new Array<string>(count);
  let offset = 0;
  for (let index = 0; index < count; index++) {
    if (offset + LENGTH_BYTES > bytes.byteLength) throw wrongFrames(name, count, bytes.byteLength);
    const start = offset + LENGTH_BYTES;
    offset = start + view.getUint32(offset, true);
    if (offset > bytes.byteLength) throw wrongFrames(name, count, bytes.byteLength);
    elements[index] = decodeText(name, index, bytes.subarray(start, offset));
  }
  if (offset !== bytes.byteLength) throw wrongFrames(name, count, bytes.byteLength);
  return elements;
}

function wrongFrames(name: string, count: number, byteLength: number): PapillonError {
  return new PapillonError(
    'WRONG_BINARY_LENGTH',
    `Input ${quote(name)}: ${byteLength} bytes do not hold exactly ${count} elements, each after its 4-byte length`,
  );
}

/**
 * The array owns exactly the tensor's bytes: a view into the request would drag the whole body along when the
 * tensor moves to another thread, and its offset need not be aligned.
 */
function ownedArray(datatype: NumericDatatype, count: number, bytes: Uint8Array): NumericArray {
  const ArrayType = arrayConstructor(datatype);
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength) {
    return new ArrayType(buffer, 0, count);
  }
  const copy = new ArrayBuffer(bytes.byteLength);
  new Uint8Array(copy).set(bytes);
  return new ArrayType(copy, 0, count);
}

/**
 * `count` elements from exactly these bytes. Throws WRONG_BINARY_LENGTH, and WRONG_DATA for a BOOL that is
 * neither 0 nor 1 or text that is not UTF-8.
 */
export function decodeBinaryData(
  input: BinaryInput,
  count: number,
  bytes: Uint8Array,
): NumericArray | readonly string[] {
  const { name, datatype } = input;
  if (datatype === 'BYTES') return decodeFramedText(name, count, bytes);
  const expected = count * bytesPerElement(datatype);
  if (bytes.byteLength !== expected) {
    throw new PapillonError(
      'WRONG_BINARY_LENGTH',
      `Input ${quote(name)}: ${count} elements of ${datatype} take ${expected} bytes, found ${bytes.byteLength}`,
    );
  }
  if (datatype === 'BOOL') {
    const wrong = bytes.findIndex((byte) => byte > 1);
    if (wrong >= 0) {
      throw new PapillonError('WRONG_DATA', `Input ${quote(name)}: byte ${wrong} of a BOOL must be 0 or 1`);
    }
  }
  return ownedArray(datatype, count, bytes);
}

function encodeFramedText(elements: readonly string[]): Uint8Array {
  const lengths = elements.map((element) => Buffer.byteLength(element));
  const total = lengths.reduce((sum, length) => sum + LENGTH_BYTES + length, 0);
  const out = Buffer.allocUnsafe(total);
  let offset = 0;
  elements.forEach((element, index) => {
    offset = out.writeUInt32LE(lengths[index] ?? 0, offset);
    offset += out.write(element, offset);
  });
  return out;
}

/** Raw bytes of a tensor: a view of its own data, copied only for BYTES. */
export function encodeBinaryData(tensor: Tensor): Uint8Array {
  const { data } = tensor;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return encodeFramedText(data);
}
