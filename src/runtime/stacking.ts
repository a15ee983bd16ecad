/** Stacks the inputs of a batch's items along axis 0 and splits the outputs again. */
import { PapillonError } from '../errors.js';
import type { BatchItem, BatchLayout, NumericArray, Tensor, TensorMap, TensorSpec } from '../types.js';

type NumericConstructor = new (length: number) => NumericArray;

/** Index of the padded axis in a spec, or −1. */
function paddedAxisOf(spec: TensorSpec, layout: BatchLayout): number {
  return layout.paddedAxis === null ? -1 : spec.dims.indexOf(layout.paddedAxis);
}

/** Length of an item along the padded axis; 1 where the layout has none. */
export function itemLength(item: BatchItem, inputs: readonly TensorSpec[], layout: BatchLayout): number {
  for (const spec of inputs) {
    const axis = paddedAxisOf(spec, layout);
    if (axis > 0) return item.inputs.get(spec.name)?.shape[axis] ?? 1;
  }
  return 1;
}

/** Tokens of an item without padding: along the padded axis, or along axis 1 of the first input of rank 2 or more. */
export function tokenLength(item: BatchItem, inputs: readonly TensorSpec[], layout: BatchLayout): number {
  if (layout.paddedAxis !== null) return itemLength(item, inputs, layout);
  const first = inputs[0] ? item.inputs.get(inputs[0].name) : undefined;
  return first?.shape.length === 2 ? (first.shape[1] ?? 1) : 1;
}

/** Copies blocks of `from` elements into places `to` elements apart; what lies between stays 0. */
function copyPadded(
  source: NumericArray,
  target: NumericArray,
  offset: number,
  from: number,
  to: number,
): void {
  if (from === to) {
    target.set(source as never, offset);
    return;
  }
  for (let read = 0, write = offset; read < source.length; read += from, write += to) {
    target.set(source.subarray(read, read + from) as never, write);
  }
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((result, size) => result * size, 1);
}

/**
 * One tensor [Σ rows, …] of an input's parts. On the padded axis shorter parts are filled with zeros, which the mask
 * (zero there too) hides.
 */
function stack(parts: readonly Tensor[], axis: number, length: number): Tensor {
  const first = parts.at(0);
  if (first === undefined) throw new PapillonError('INTERNAL', 'a batch without items');
  if (parts.length === 1 && (axis < 0 || first.shape[axis] === length)) return first;
  const rows = parts.reduce((sum, part) => sum + (part.shape[0] ?? 0), 0);
  const shape = first.shape.map((size, i) => (i === 0 ? rows : i === axis ? length : size));
  if (first.datatype === 'BYTES') {
    return { datatype: 'BYTES', shape, data: parts.flatMap((part) => part.data as readonly string[]) };
  }
  const Constructor = (first.data as NumericArray).constructor as NumericConstructor;
  const data = new Constructor(product(shape));
  let offset = 0;
  for (const part of parts) {
    const inner = axis < 0 ? 1 : product(part.shape.slice(axis));
    const padded = axis < 0 ? 1 : length * product(part.shape.slice(axis + 1));
    copyPadded(part.data as NumericArray, data, offset, inner, padded);
    offset += axis < 0 ? part.data.length : (part.data.length / inner) * padded;
  }
  return { datatype: first.datatype, shape, data };
}

export interface StackedBatch {
  readonly inputs: readonly (readonly [string, Tensor])[];
  readonly paddedLength: number;
}

export function stackItems(
  items: readonly BatchItem[],
  inputs: readonly TensorSpec[],
  layout: BatchLayout,
): StackedBatch {
  const paddedLength = Math.max(...items.map((item) => itemLength(item, inputs, layout)));
  const stacked = inputs.map((spec): readonly [string, Tensor] => {
    const parts = items.map((item) => {
      const tensor = item.inputs.get(spec.name);
      if (!tensor) throw new PapillonError('MISSING_INPUT', `input '${spec.name}' is missing`);
      return tensor;
    });
    return [spec.name, stack(parts, paddedAxisOf(spec, layout), paddedLength)];
  });
  return { inputs: stacked, paddedLength };
}

/** Rows [start, start + rows) of an output, without the padding beyond `length` on `axis`. A view if nothing is cut. */
function slice(output: Tensor, start: number, rows: number, axis: number, length: number): Tensor {
  const rowSize = product(output.shape.slice(1));
  const padded = axis > 0 ? (output.shape[axis] ?? length) : length;
  const shape = output.shape.map((size, i) => (i === 0 ? rows : i === axis ? length : size));
  if (output.datatype === 'BYTES') {
    const data = (output.data as readonly string[]).slice(start * rowSize, (start + rows) * rowSize);
    return { datatype: 'BYTES', shape, data };
  }
  const view = (output.data as NumericArray).subarray(start * rowSize, (start + rows) * rowSize);
  if (axis < 0 || padded === length) return { datatype: output.datatype, shape, data: view };
  const inner = product(output.shape.slice(axis + 1));
  const data = new (view.constructor as NumericConstructor)(product(shape));
  const [from, to] = [padded * inner, length * inner];
  for (let read = 0, write = 0; read < view.length; read += from, write += to) {
    data.set(view.subarray(read, read + to) as never, write);
  }
  return { datatype: output.datatype, shape, data };
}

/** The first `width` values of the last axis. */
function narrow(output: Tensor, width: number | undefined): Tensor {
  const full = output.shape.at(-1);
  if (width === undefined || full === undefined || full <= width || output.datatype === 'BYTES')
    return output;
  const source = output.data as NumericArray;
  const data = new (source.constructor as NumericConstructor)((source.length / full) * width);
  for (let read = 0, write = 0; read < source.length; read += full, write += width) {
    data.set(source.subarray(read, read + width) as never, write);
  }
  return { datatype: output.datatype, shape: [...output.shape.slice(0, -1), width], data };
}

/**
 * The outputs of each item, in order. `widths` are those that items have with heads of their own, by output: in a
 * batch all are padded to the widest.
 */
export function splitOutputs(
  items: readonly BatchItem[],
  outputs: readonly (readonly [string, Tensor])[],
  specs: { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] },
  layout: BatchLayout,
  widths: readonly (ReadonlyMap<string, number> | undefined)[] = [],
): TensorMap[] {
  if (!layout.stackable) return [new Map(outputs)];
  const axes = new Map(specs.outputs.map((spec) => [spec.name, paddedAxisOf(spec, layout)]));
  const baseWidths = new Map(specs.outputs.map((spec) => [spec.name, spec.dims.at(-1)]));
  let start = 0;
  return items.map((item, i) => {
    const length = itemLength(item, specs.inputs, layout);
    const own = new Map<string, Tensor>();
    for (const [name, tensor] of outputs) {
      const part = slice(tensor, start, item.rows, axes.get(name) ?? -1, length);
      const baseWidth = baseWidths.get(name);
      const width = widths[i]?.get(name) ?? (typeof baseWidth === 'number' ? baseWidth : undefined);
      own.set(name, narrow(part, width));
    }
    start += item.rows;
    return own;
  });
}
