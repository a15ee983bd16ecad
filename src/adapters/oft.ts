/**
 * PEFT's OFT parameters. Three generations rotate the input; which one a file is of shows in its tensors:
 * - 0.14–0.15: `oft_r` [r or 1, b, b], `oft_s` [out, 1]: the exact Cayley transform, BOFT with m = 1.
 * - from 0.16: `oft_R.weight` [r or 1, b(b−1)/2], no scale: Cayley–Neumann series, or exact Cayley.
 * - to 0.13: `oft_r` without `oft_s` rotates the output, which is not served here.
 * One stored block is repeated over the layer (`block_share`).
 */
import { PapillonError } from '../errors.js';
import type { OftConfig } from './peft-config.js';
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

const MAX_RESIDUAL_EXACT = 1e-4;

/** @throws PapillonError as `planBoft`, and ADAPTER_PART_UNSUPPORTED for output-side rotations */
export function planOft(config: OftConfig, group: ModuleTensors, base: ModuleShape): RotationAndScale {
  const { name, tensors } = group;
  refuseOthers(tensors, /^oft_(R\.weight|[rs])$/, 'OFT');
  return tensors.has('oft_r')
    ? planMatrices(config, group, base)
    : planTriangles(config, name, tensors, base);
}

/** 0.14–0.15. COFT there shrinks the raw matrix to eps·⌈out/r⌉²/√rows, before it is made skew. */
function planMatrices(
  config: OftConfig,
  { name, tensors }: ModuleTensors,
  base: ModuleShape,
): RotationAndScale {
  const tensor = requireTensor(tensors, name, 'oft_r');
  if (config.oft_block_size === undefined && !tensors.has('oft_s')) {
    throw new PapillonError(
      'ADAPTER_PART_UNSUPPORTED',
      `Tensor "${tensor.name}" is of PEFT 0.13 or older and rotates the layer's output; train or convert it with 0.16 or newer.`,
    );
  }
  const scale = requireTensor(tensors, name, 'oft_s');
  expectShape(scale, [base.outFeatures, 1]);
  assertFloat(tensor);
  const [rows = 0, b = 0, columns] = tensor.shape;
  if (tensor.shape.length !== 3 || b !== columns) throw shapeMismatch(tensor, 'expected [blocks, b, b]');
  checkRows(config, tensor, rows, b, base.inFeatures);
  const blocksOfOutput = Math.ceil(base.outFeatures / (base.inFeatures / b));
  return {
    scale,
    rotation: {
      stacking: 'left',
      tensor,
      side: 'input',
      width: base.inFeatures,
      blockSize: b,
      maxResidual: MAX_RESIDUAL_EXACT,
      form: {
        storage: 'squares',
        m: 1,
        stored: rows,
        b,
        radius: config.coft ? (config.eps * blocksOfOutput ** 2) / Math.sqrt(rows) : null,
        coefficients: null,
      },
    },
  };
}

/** From 0.16. COFT there shrinks the skew matrix to eps/√rows. */
function planTriangles(
  config: OftConfig,
  name: string,
  tensors: ReadonlyMap<string, TensorEntry>,
  base: ModuleShape,
): RotationAndScale {
  const tensor = requireTensor(tensors, name, 'oft_R.weight');
  assertFloat(tensor);
  if (tensor.shape.length !== 2) throw shapeMismatch(tensor, 'expected [blocks, b(b−1)/2]');
  const [rows = 0, elements = 0] = tensor.shape;
  const b = (1 + Math.sqrt(1 + 8 * elements)) / 2;
  if (!Number.isInteger(b)) throw shapeMismatch(tensor, `${elements} is not b(b−1)/2 for any block size b`);
  checkRows(config, tensor, rows, b, base.inFeatures);
  const neumann = config.use_cayley_neumann ?? true;
  return {
    scale: null,
    rotation: {
      stacking: 'right',
      tensor,
      side: 'input',
      width: base.inFeatures,
      blockSize: b,
      // A truncated series is orthogonal only nearly, by PEFT's definition: it is reported, not refused.
      maxResidual: neumann ? Infinity : MAX_RESIDUAL_EXACT,
      form: {
        storage: 'triangles',
        m: 1,
        stored: rows,
        b,
        radius: config.coft ? config.eps / Math.sqrt(rows) : null,
        coefficients: neumann
          ? neumannCoefficients(config.num_cayley_neumann_terms, config.peft_version ?? null)
          : null,
      },
    },
  };
}

/**
 * c_0 … of the series. Releases 0.16 and 0.17 (which save no `peft_version`): T terms, every power from 1 on with
 * coefficient 2. Later ones give the highest power the coefficient 1 from T = 3 on, and T = 3 has the powers of T = 4.
 */
export function neumannCoefficients(terms: number, peftVersion: string | null): readonly number[] {
  const series = (count: number) => Array.from({ length: count }, (_, power) => (power === 0 ? 1 : 2));
  if (peftVersion === null || terms <= 2) return series(terms);
  return [...series(Math.max(terms, 4) - 1), 1];
}

function checkRows(config: OftConfig, tensor: TensorEntry, rows: number, b: number, width: number): void {
  const blocks = width / b;
  if (!Number.isInteger(blocks)) {
    throw shapeMismatch(tensor, `blocks of ${b} do not divide the ${width} inputs of the base's module`);
  }
  const expected = config.block_share ? 1 : blocks;
  if (rows !== expected) throw shapeMismatch(tensor, `expected ${expected} blocks of ${b}, found ${rows}`);
}
