/**
 * Owns the last check of a request's tensors before they can share a batch: whatever passes cannot disturb the
 * rows next to it.
 */
import { PapillonError } from '../errors.js';
import type { ModelDescription, Tensor, TensorMap, TensorSpec } from '../types.js';

/**
 * Throws UNKNOWN_INPUT, MISSING_INPUT, WRONG_DATATYPE, WRONG_DATA (elements against shape) or WRONG_SHAPE:
 * rank, fixed sizes, at least one row and one position, and one size for every named axis across the inputs.
 */
export function checkInputs(model: Pick<ModelDescription, 'inputs' | 'layout'>, inputs: TensorMap): void {
  const known = new Set(model.inputs.map((spec) => spec.name));
  for (const name of inputs.keys()) {
    if (!known.has(name)) {
      throw new PapillonError(
        'UNKNOWN_INPUT',
        `the model has no input "${name}"; it takes ${[...known].join(', ')}`,
      );
    }
  }
  const axes = new Map<string, { readonly size: number; readonly input: string }>();
  let rows: { readonly size: number; readonly input: string } | undefined;
  for (const spec of model.inputs) {
    const tensor = inputs.get(spec.name);
    if (tensor === undefined) {
      throw new PapillonError('MISSING_INPUT', `input "${spec.name}" (${spec.datatype}) is missing`);
    }
    checkTensor(spec, tensor);
    for (const [axis, dim] of spec.dims.entries()) {
      const size = tensor.shape[axis] as number;
      if (typeof dim !== 'string' || dim === '') continue;
      const seen = axes.get(dim);
      if (seen === undefined) axes.set(dim, { size, input: spec.name });
      else if (seen.size !== size) throw disagreement(`axis "${dim}"`, seen, { size, input: spec.name });
      if (size < 1 && dim === model.layout.paddedAxis) {
        throw wrongShape(spec, tensor, `axis "${dim}" must be at least 1`);
      }
    }
    if (!model.layout.stackable) continue;
    const size = tensor.shape[0] ?? 0;
    if (size < 1) throw wrongShape(spec, tensor, 'at least one row is needed on axis 0');
    if (rows === undefined) rows = { size, input: spec.name };
    else if (rows.size !== size)
      throw disagreement('the number of rows (axis 0)', rows, { size, input: spec.name });
  }
}

function checkTensor(spec: TensorSpec, tensor: Tensor): void {
  if (tensor.datatype !== spec.datatype) {
    throw new PapillonError(
      'WRONG_DATATYPE',
      `input "${spec.name}" must be ${spec.datatype}, but ${tensor.datatype} was sent`,
    );
  }
  if (tensor.shape.length !== spec.dims.length) {
    throw wrongShape(spec, tensor, `${String(spec.dims.length)} axes are needed`);
  }
  let elements = 1;
  for (const [axis, dim] of spec.dims.entries()) {
    const size = tensor.shape[axis] as number;
    if (!Number.isInteger(size) || size < 0) {
      throw wrongShape(spec, tensor, `axis ${String(axis)} is not a whole number`);
    }
    if (typeof dim === 'number' && dim !== size) {
      throw wrongShape(spec, tensor, `axis ${String(axis)} must be ${String(dim)}`);
    }
    elements *= size;
  }
  if (tensor.data.length !== elements) {
    throw new PapillonError(
      'WRONG_DATA',
      `input "${spec.name}" has ${String(tensor.data.length)} elements, but its shape ${shown(tensor.shape)} needs ${String(elements)}`,
    );
  }
}

function wrongShape(spec: TensorSpec, tensor: Tensor, problem: string): PapillonError {
  const expected = spec.dims.map((dim) => (typeof dim === 'number' ? dim : dim === '' ? '?' : dim));
  return new PapillonError(
    'WRONG_SHAPE',
    `input "${spec.name}" has shape ${shown(tensor.shape)}, expected ${shown(expected)}: ${problem}`,
  );
}

function disagreement(
  what: string,
  a: { readonly size: number; readonly input: string },
  b: { readonly size: number; readonly input: string },
): PapillonError {
  return new PapillonError(
    'WRONG_SHAPE',
    `inputs "${a.input}" and "${b.input}" disagree about ${what}: ${String(a.size)} and ${String(b.size)}`,
  );
}

function shown(shape: readonly (number | string)[]): string {
  return `[${shape.join(', ')}]`;
}
