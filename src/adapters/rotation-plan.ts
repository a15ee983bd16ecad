/** What the kinds of adapters have in common: how a module's rotation is computed, and how it is planned. */
import { PapillonError } from '../errors.js';
import type { BaseModule } from '../types.js';
import { assertFloat } from './safetensors.js';
import type { TensorEntry } from './safetensors-header.js';

/** What loading must know of a base module; its bias stays with the base. */
export type ModuleShape = Pick<BaseModule, 'name' | 'kind' | 'inFeatures' | 'outFeatures'>;

/** Parameters of one module, by their name behind the module's. */
export interface ModuleTensors {
  /** Torch path as the checkpoint has it. */
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** A rotation whose shapes are proven good and whose values are still to be read. */
export interface RotationPlan {
  readonly tensor: TensorEntry;
  /** e: the blocks' size. */
  readonly blockSize: number;
  /** Largest max |RᵀR − I| that is served. */
  readonly maxResidual: number;
  /** R's blocks [d/e, e, e] in float64 from the tensor's values, or null where R = I. */
  compute(values: Float32Array | Float64Array): Float64Array | null;
}

/** Rotation and scale of one module as planned from its shapes. */
export interface RotationAndScale {
  readonly rotation: RotationPlan;
  readonly scale: TensorEntry | null;
}

/** The tensor, or ADAPTER_TENSOR_MISSING: PEFT always saves it, so the file has lost something. */
export function requireTensor(
  tensors: ReadonlyMap<string, TensorEntry>,
  module: string,
  parameter: string,
): TensorEntry {
  const entry = tensors.get(parameter);
  if (entry !== undefined) return entry;
  throw new PapillonError(
    'ADAPTER_TENSOR_MISSING',
    `Module "${module}" has no "${parameter}", which PEFT always saves: export the adapter again.`,
  );
}

/** Throws where a parameter belongs to another kind of adapter than the configuration names. */
export function refuseOthers(tensors: ReadonlyMap<string, TensorEntry>, own: RegExp, type: string): void {
  for (const [parameter, entry] of tensors) {
    if (!own.test(parameter) && !parameter.startsWith('base_layer.')) {
      throw new PapillonError(
        'ADAPTER_CONFIG_CONFLICT',
        `adapter_config.json says ${type}, but tensor "${entry.name}" belongs to another kind of adapter.`,
      );
    }
  }
}

/** ADAPTER_SHAPE_MISMATCH about one tensor. */
export function shapeMismatch(entry: TensorEntry, why: string): PapillonError {
  return new PapillonError(
    'ADAPTER_SHAPE_MISMATCH',
    `Tensor "${entry.name}" has shape [${entry.shape.join(', ')}]: ${why}.`,
  );
}

/** Throws unless a parameter is a float tensor of exactly this shape. */
export function expectShape(entry: TensorEntry, shape: readonly number[]): void {
  assertFloat(entry);
  if (entry.shape.length === shape.length && entry.shape.every((size, i) => size === shape[i])) return;
  throw new PapillonError(
    'ADAPTER_SHAPE_MISMATCH',
    `Tensor "${entry.name}" has shape [${entry.shape.join(', ')}], the base's module needs [${shape.join(', ')}].`,
  );
}
