/** Operands for tests: random rotations, scales, biases and weights for modules of given sizes. */
import type { AdapterOperands, ModuleOperands } from '#dist/types.js';
import { randomFloats } from './tiny-models.js';

export interface ModuleSize {
  readonly module: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
}

export interface Brings {
  /** Block size e of the rotation. */
  readonly rotation?: number;
  /** Block size of the rotation of the result. */
  readonly outputRotation?: number;
  readonly scale?: boolean;
  readonly bias?: boolean;
  readonly weight?: boolean;
}

/** Blocks near a rotation: what a site computes is linear in R, so R need not be orthogonal here. */
function randomBlocks(seed: number, width: number, e: number): Float32Array {
  const blocks = randomFloats(seed, width * e, 0.5 / Math.sqrt(e));
  for (let row = 0; row < width; row++) {
    const diagonal = row * e + (row % e);
    blocks[diagonal] = (blocks[diagonal] as number) + 1;
  }
  return blocks;
}

export function moduleOperands(size: ModuleSize, brings: Brings, seed: number): ModuleOperands {
  const { module, inFeatures: d, outFeatures: n } = size;
  return {
    module,
    ...(brings.rotation !== undefined && {
      rotation: { blockSize: brings.rotation, blocks: randomBlocks(seed, d, brings.rotation) },
    }),
    ...(brings.outputRotation !== undefined && {
      outputRotation: {
        blockSize: brings.outputRotation,
        blocks: randomBlocks(seed + 4, n, brings.outputRotation),
      },
    }),
    ...(brings.scale && { scale: randomFloats(seed + 1, n, 0.5).map((value) => value + 1) }),
    ...(brings.bias && { bias: randomFloats(seed + 2, n) }),
    ...(brings.weight && { weight: randomFloats(seed + 3, n * d, 1 / Math.sqrt(d)) }),
  };
}

export function adapter(key: string, modules: readonly ModuleOperands[]): AdapterOperands {
  const arrays = modules.flatMap((m) => [
    m.rotation?.blocks,
    m.outputRotation?.blocks,
    m.scale,
    m.bias,
    m.weight,
  ]);
  return { key, modules, bytes: arrays.reduce((sum, array) => sum + (array?.byteLength ?? 0), 0) };
}

/** A copy whose buffers may be given away. */
export function copyOperands(operands: AdapterOperands): AdapterOperands {
  return structuredClone(operands);
}
