/**
 * PEFT's OFT parameters. Which of its generations a file is of shows in its tensors and configuration:
 * - to 0.13 (no `oft_block_size` in the configuration): `oft_r` [r or 1, b, b] with b = ⌈out/r⌉, no `oft_s`. Rotates
 *   the output before the bias by exact Cayley; the last block is cropped to the width.
 * - 0.14–0.15: `oft_r` [r or 1, b, b], `oft_s` [out, 1]. Rotates the input: BOFT with m = 1.
 * - from 0.16: `oft_R.weight` [r or 1, b(b−1)/2], no scale. Rotates the input by a Cayley–Neumann series or by exact
 *   Cayley. `oft_embedding_R.weight` (from 0.19) does the same to the rows that an embedding looks up.
 * One stored block is repeated over the layer (`block_share`).
 */
import type { OftConfig } from './peft-config.js';
import {
  expectShape,
  refuseOthers,
  requireTensor,
  shapeMismatch,
  type ModuleShape,
  type ModuleTensors,
  type RotationAndScale,
  type RotationForm,
} from './rotation-plan.js';
import { assertFloat } from './safetensors.js';
import type { TensorEntry } from './safetensors-header.js';

const MAX_RESIDUAL_EXACT = 1e-4;
/** Since then the configuration tells PEFT's version, and the series ends differently. */
const FIRST_TOLD_VERSION = [0, 18] as const;

/** @throws PapillonError as `planBoft` */
export function planOft(config: OftConfig, group: ModuleTensors, base: ModuleShape): RotationAndScale {
  const { name, tensors } = group;
  refuseOthers(tensors, /^oft_(R\.weight|embedding_R\.weight|[rs])$/, 'OFT');
  if (base.kind === 'embedding') {
    const tensor = requireTensor(tensors, name, 'oft_embedding_R.weight');
    // PEFT rotates the result of the look-up, which is why it counts as an output.
    return planTriangles(config, tensor, 'output', base.outFeatures);
  }
  if (!tensors.has('oft_r')) {
    const tensor = requireTensor(tensors, name, 'oft_R.weight');
    return planTriangles(config, tensor, 'input', base.inFeatures);
  }
  return config.oft_block_size === undefined && !tensors.has('oft_s')
    ? planOutput(config, group, base)
    : planMatrices(config, group, base);
}

/**
 * To 0.13. COFT there limits the raw matrix to eps·b²/√rows. A block size that does not divide the width makes one
 * dense block of all (no smaller blocks begin and end where the stored ones do).
 */
function planOutput(
  config: OftConfig,
  { name, tensors }: ModuleTensors,
  base: ModuleShape,
): RotationAndScale {
  const tensor = requireTensor(tensors, name, 'oft_r');
  const [rows, b] = squares(tensor);
  const width = base.outFeatures;
  // As many blocks as are needed, for a shared one; r may be more, then the last are cropped away.
  const r = config.block_share ? Math.ceil(width / b) : rows;
  if ((config.block_share && rows !== 1) || b !== Math.ceil(width / r)) {
    throw shapeMismatch(
      tensor,
      `expected ${config.block_share ? 'one block' : 'r blocks'} of ⌈${width}/r⌉ for the ${width} outputs of the base's module`,
    );
  }
  const divides = width % b === 0;
  return {
    scale: null,
    rotation: {
      tensor,
      side: 'output',
      stacking: 'right',
      width,
      blockSize: divides ? b : width,
      // What cropping leaves of a block is not orthogonal, by PEFT's definition.
      maxResidual: divides ? MAX_RESIDUAL_EXACT : Infinity,
      form: exact(rows, b, config.coft ? (config.eps * b * b) / Math.sqrt(rows) : null),
    },
  };
}

/** 0.14–0.15. COFT there limits the raw matrix to eps·⌈out/r⌉²/√rows. */
function planMatrices(
  config: OftConfig,
  { name, tensors }: ModuleTensors,
  base: ModuleShape,
): RotationAndScale {
  const tensor = requireTensor(tensors, name, 'oft_r');
  const scale = requireTensor(tensors, name, 'oft_s');
  expectShape(scale, [base.outFeatures, 1]);
  const [rows, b] = squares(tensor);
  checkRows(config, tensor, rows, b, base.inFeatures);
  const outputsPerBlock = Math.ceil(base.outFeatures / (base.inFeatures / b));
  return {
    scale,
    rotation: {
      tensor,
      side: 'input',
      stacking: 'left',
      width: base.inFeatures,
      blockSize: b,
      maxResidual: MAX_RESIDUAL_EXACT,
      form: exact(rows, b, config.coft ? (config.eps * outputsPerBlock ** 2) / Math.sqrt(rows) : null),
    },
  };
}

/** From 0.16. COFT there limits the skew matrix to eps/√rows. */
function planTriangles(
  config: OftConfig,
  tensor: TensorEntry,
  side: 'input' | 'output',
  width: number,
): RotationAndScale {
  assertFloat(tensor);
  if (tensor.shape.length !== 2) throw shapeMismatch(tensor, 'expected [blocks, b(b−1)/2]');
  const [rows = 0, elements = 0] = tensor.shape;
  const b = (1 + Math.sqrt(1 + 8 * elements)) / 2;
  if (!Number.isInteger(b)) throw shapeMismatch(tensor, `${elements} is not b(b−1)/2 for any block size b`);
  checkRows(config, tensor, rows, b, width);
  const neumann = config.use_cayley_neumann ?? true;
  return {
    scale: null,
    rotation: {
      tensor,
      side,
      stacking: 'right',
      width,
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
  if (isOlder(peftVersion) || terms <= 2) return series(terms);
  return [...series(Math.max(terms, 4) - 1), 1];
}

/** Whether a version is absent or before 0.18. */
function isOlder(peftVersion: string | null): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(peftVersion ?? '0.0') ?? [];
  // One that cannot be read was still written, which older releases do not.
  if (major === undefined || minor === undefined) return false;
  const [firstMajor, firstMinor] = FIRST_TOLD_VERSION;
  return Number(major) < firstMajor || (Number(major) === firstMajor && Number(minor) < firstMinor);
}

function exact(stored: number, b: number, radius: number | null): RotationForm {
  return { storage: 'squares', m: 1, stored, b, radius, coefficients: null };
}

function squares(tensor: TensorEntry): readonly [rows: number, b: number] {
  assertFloat(tensor);
  const [rows = 0, b = 0, columns] = tensor.shape;
  if (tensor.shape.length !== 3 || b !== columns || b === 0) {
    throw shapeMismatch(tensor, 'expected [blocks, b, b]');
  }
  return [rows, b];
}

function checkRows(config: OftConfig, tensor: TensorEntry, rows: number, b: number, width: number): void {
  const blocks = width / b;
  if (!Number.isInteger(blocks)) {
    throw shapeMismatch(tensor, `blocks of ${b} do not divide the ${width} features of the base's module`);
  }
  const expected = config.block_share ? 1 : blocks;
  if (rows !== expected) throw shapeMismatch(tensor, `expected ${expected} blocks of ${b}, found ${rows}`);
}
