/**
 * Owns the question which requests may share a batch: their shape class, and their extent in rows and along
 * the padded axis.
 */
import type { ModelDescription, TensorMap } from '../types.js';

/** The extent of a request as the scheduler counts it. */
export interface RequestShape {
  /** Requests of equal class can be stacked. null: shares its batch with nobody. */
  readonly shapeClass: string | null;
  /** Size of axis 0; 1 where rows cannot be stacked. */
  readonly rows: number;
  /** Size along `BatchLayout.paddedAxis`, 1 where there is none. A request's tokens are rows × length. */
  readonly length: number;
}

/**
 * Requires inputs that agree with the model's specs and with each other, all of them present, so that names
 * and datatypes need not enter the class: only the sizes of axes that are neither rows nor padded do.
 */
export function shapeOfRequest(
  model: Pick<ModelDescription, 'inputs' | 'layout'>,
  inputs: TensorMap,
): RequestShape {
  const { stackable, paddedAxis } = model.layout;
  if (!stackable) return { shapeClass: null, rows: 1, length: 1 };
  let rows = 1;
  let length = 1;
  const sizes: string[] = [];
  for (const spec of model.inputs) {
    const shape = inputs.get(spec.name)?.shape ?? [];
    rows = shape[0] ?? rows;
    const free: string[] = [];
    for (let axis = 1; axis < shape.length; axis += 1) {
      const size = shape[axis] as number;
      if (paddedAxis !== null && spec.dims[axis] === paddedAxis) {
        length = size;
        free.push('*');
      } else {
        free.push(String(size));
      }
    }
    sizes.push(free.join('x'));
  }
  return { shapeClass: sizes.join(','), rows, length };
}
