/** What the kinds of adapters have in common: how a module's rotation is computed, and how it is planned. */
import { PapillonError } from '../errors.js';
import type { BaseModule } from '../types.js';
import { assertFloat } from './safetensors.js';
import type { TensorEntry } from './safetensors-header.js';

/** What loading must know of a base module; its bias itself stays with the base. */
export type ModuleShape = Pick<BaseModule, 'name' | 'kind' | 'inFeatures' | 'outFeatures' | 'isHead'> & {
  readonly hasBias?: boolean;
};

/** Parameters of one module, by their name behind the module's. */
export interface ModuleTensors {
  /** Torch path as the checkpoint has it. */
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/**
 * How a checkpoint stores a rotation, as data: every generation of BOFT and OFT is a case of it. `computeBlocks` is
 * its fast reading, the self-check its slow one.
 */
export interface RotationForm {
  /** `squares`: raw blocks A, S = (A − Aᵀ)/2. `triangles`: strict upper triangles of a skew S, row by row. */
  readonly storage: 'squares' | 'triangles';
  /** Butterfly factors. */
  readonly m: number;
  /** Blocks stored for each factor; one alone is repeated over the width (`block_share`). */
  readonly stored: number;
  /** b: size of the stored blocks. Where b does not divide the width, the last block is cropped to what is left. */
  readonly b: number;
  /** COFT: a stored block whose Frobenius norm is larger is scaled down to this; null without COFT. */
  readonly radius: number | null;
  /** Of S⁰, S¹, … in the rotation; null for the Cayley transform (I − S)(I + S)⁻¹. */
  readonly coefficients: readonly number[] | null;
}

/** A rotation whose shapes are proven good and whose values are still to be read. */
export interface RotationPlan {
  readonly tensor: TensorEntry;
  readonly form: RotationForm;
  /** Of what it rotates: the module's input, or its result before scale and bias. */
  readonly side: 'input' | 'output';
  /** d of what it rotates. */
  readonly width: number;
  /** e: size of the blocks that are served. */
  readonly blockSize: number;
  /** Largest max |RᵀR − I| that is served. */
  readonly maxResidual: number;
  readonly stacking: Stacking;
}

/**
 * How PEFT applies an adapter on top of others that are active before it: to their product as R · before (`left`:
 * BOFT and OFT of 0.14–0.15, which multiply matrices) or as before · R (`right`: other OFT, which passes activations
 * on from one to the next).
 */
export type Stacking = 'left' | 'right';

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
