/**
 * PEFT's BOFT parameters: `boft_R` [m, D, b, b] and `boft_s` [out, 1] ([1, out] of a convolution). A saved `boft_P`
 * is ignored.
 */
import { PapillonError } from '../errors.js';
import { isButterfly, productBlockSize } from '../math/index.js';
import type { BoftConfig } from './peft-config.js';
import {
  expectShape,
  refuseOthers,
  requireTensor,
  shapeMismatch,
  type ModuleShape,
  type ModuleTensors,
  type RotationAndScale,
} from './rotation-plan.js';
import { assertFloat } from './safetensors.js';
import type { TensorEntry } from './safetensors-header.js';

/** The exact Cayley transform misses this only where float64 fails on enormous entries. */
const MAX_RESIDUAL = 1e-4;

/**
 * m and b are read from `boft_R`. The configured factor is not compared: PEFT without its CUDA kernel trains m = 1
 * and saves the requested one. The configured block size and number are, as PEFT refuses a file that differs.
 *
 * @throws PapillonError ADAPTER_TENSOR_MISSING, ADAPTER_SHAPE_MISMATCH, ADAPTER_CONFIG_CONFLICT
 */
export function planBoft(config: BoftConfig, group: ModuleTensors, base: ModuleShape): RotationAndScale {
  const { name, tensors } = group;
  refuseOthers(tensors, /^boft_[RsP]$/, 'BOFT');
  const tensor = requireTensor(tensors, name, 'boft_R');
  const scale = requireTensor(tensors, name, 'boft_s');
  const [m, D, b] = butterflyShape(tensor, base.inFeatures);
  checkConfig(config, tensor, D, b);
  expectShape(scale, base.kind === 'convolution' ? [1, base.outFeatures] : [base.outFeatures, 1]);
  return {
    scale,
    rotation: {
      stacking: 'left',
      tensor,
      side: 'input',
      width: base.inFeatures,
      blockSize: productBlockSize(b, m),
      maxResidual: MAX_RESIDUAL,
      form: { storage: 'squares', m, stored: D, b, radius: null, coefficients: null },
    },
  };
}

function butterflyShape(tensor: TensorEntry, width: number): readonly [m: number, D: number, b: number] {
  assertFloat(tensor);
  if (tensor.shape.length !== 4) throw shapeMismatch(tensor, 'expected 4 dimensions [m, blocks, b, b]');
  const [m = 0, D = 0, b = 0, columns] = tensor.shape;
  if (b !== columns) throw shapeMismatch(tensor, 'its blocks are not square');
  if (D * b !== width) {
    throw shapeMismatch(tensor, `${D} blocks of ${b} do not make the ${width} inputs of the base's module`);
  }
  if (!isButterfly(m, D, b)) {
    throw shapeMismatch(tensor, `no butterfly of ${m} factors exists over ${D} blocks of ${b}`);
  }
  return [m, D, b];
}

function checkConfig(config: BoftConfig, tensor: TensorEntry, D: number, b: number): void {
  const { boft_block_size: blockSize, boft_block_num: blockNum } = config;
  const wrong =
    blockSize && blockSize !== b
      ? `boft_block_size ${blockSize}`
      : blockNum && blockNum !== D
        ? `boft_block_num ${blockNum}`
        : null;
  if (wrong === null) return;
  throw new PapillonError(
    'ADAPTER_CONFIG_CONFLICT',
    `Tensor "${tensor.name}" has ${D} blocks of ${b}, but adapter_config.json says ${wrong}.`,
  );
}
