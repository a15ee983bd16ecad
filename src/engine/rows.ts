/** Owns the cutting of a request into chunks of rows, and the joining of their outputs. */
import { PapillonError } from '../errors.js';
import type { NumericArray, Tensor, TensorMap } from '../types.js';

/** Rows first … first + rows − 1 of every tensor, copied, so that a chunk's buffers are its own. */
export function sliceRows(inputs: TensorMap, first: number, rows: number): TensorMap {
  const sliced = new Map<string, Tensor>();
  for (const [name, tensor] of inputs) {
    const elementsPerRow = tensor.data.length / (tensor.shape[0] as number);
    sliced.set(name, {
      datatype: tensor.datatype,
      shape: [rows, ...tensor.shape.slice(1)],
      data: tensor.data.slice(first * elementsPerRow, (first + rows) * elementsPerRow),
    });
  }
  return sliced;
}

/**
 * Stacks the chunks' outputs along axis 0. Throws INFERENCE_FAILED if the model gave chunks of one request
 * outputs that cannot be stacked.
 */
export function joinRows(parts: readonly TensorMap[]): TensorMap {
  const first = parts[0] ?? new Map<string, Tensor>();
  if (parts.length <= 1) return first;
  const joined = new Map<string, Tensor>();
  for (const name of first.keys()) {
    const tensors = parts.flatMap((part) => part.get(name) ?? []);
    const [head] = tensors;
    if (
      head === undefined ||
      tensors.length < parts.length ||
      !tensors.every((tensor) => isStackable(head, tensor))
    ) {
      throw new PapillonError(
        'INFERENCE_FAILED',
        `output "${name}" differs in shape between rows of this request; send fewer rows at once`,
      );
    }
    const rows = tensors.reduce((sum, tensor) => sum + (tensor.shape[0] as number), 0);
    joined.set(name, {
      datatype: head.datatype,
      shape: [rows, ...head.shape.slice(1)],
      data: joinData(tensors.map((tensor) => tensor.data)),
    });
  }
  return joined;
}

function isStackable(a: Tensor, b: Tensor): boolean {
  return (
    a.datatype === b.datatype &&
    a.shape.length > 0 &&
    a.shape.length === b.shape.length &&
    a.shape.every((size, axis) => axis === 0 || size === b.shape[axis])
  );
}

function joinData(parts: readonly Tensor['data'][]): Tensor['data'] {
  const numeric: NumericArray[] = [];
  const texts: string[] = [];
  for (const part of parts) {
    if (isText(part)) texts.push(...part);
    else numeric.push(part);
  }
  const first = numeric.at(0);
  if (first === undefined) return texts;
  // Bytes are joined, whatever they mean, so that no element type needs a case of its own.
  const bytes = new Uint8Array(numeric.reduce((sum, part) => sum + part.byteLength, 0));
  let offset = 0;
  for (const part of numeric) {
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), offset);
    offset += part.byteLength;
  }
  const TypedArray = first.constructor as new (buffer: ArrayBufferLike) => NumericArray;
  return new TypedArray(bytes.buffer);
}

function isText(data: Tensor['data']): data is readonly string[] {
  return Array.isArray(data);
}
