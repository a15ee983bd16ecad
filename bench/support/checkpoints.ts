/** Made-up BOFT and OFT adapters as PEFT saves them today, in the dtypes that it saves. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { adaptedModules } from '../adapters.js';
import type { ModuleSet } from '../adapters.js';
import type { BertShape } from './bert-graph.js';
import type { Random } from './random.js';
import { writeSafetensors } from './safetensors.js';
import type { Dtype, NamedTensor } from './safetensors.js';

/** How an adapter stores its rotations. OFT's form is Cayley's, or the series of five terms that PEFT takes. */
export type Rotations =
  | { readonly kind: 'BOFT'; readonly blockSize: number; readonly factors: number }
  | { readonly kind: 'OFT'; readonly blockSize: number; readonly form: 'cayley' | 'neumann' };

export interface CheckpointSpec {
  readonly rotations: Rotations;
  readonly modules: ModuleSet;
  readonly dtype: Dtype;
}

export const WEIGHTS_FILE = 'adapter_model.safetensors';
const ROTATION_DEVIATION = 0.05;
const SCALE_DEVIATION = 0.02;

/** `BOFT b=8 m=2`, `OFT b=8 neumann`. */
export function describeRotations(rotations: Rotations): string {
  const last = rotations.kind === 'BOFT' ? `m=${String(rotations.factors)}` : rotations.form;
  return `${rotations.kind} b=${String(rotations.blockSize)} ${last}`;
}

/** Writes configuration and weights into `folder`, which is created. */
export function writeCheckpoint(
  folder: string,
  shape: BertShape,
  { rotations, modules, dtype }: CheckpointSpec,
  random: Random,
): void {
  const normal = (count: number, mean: number, deviation: number): Float32Array => {
    const values = new Float32Array(count);
    random.fillNormal(values, mean, deviation);
    return values;
  };
  const { blockSize: b } = rotations;
  const tensors = adaptedModules(shape, modules).flatMap(
    ({ name, inFeatures, outFeatures }): NamedTensor[] => {
      const prefix = `base_model.model.${name}`;
      const blocks = inFeatures / b;
      if (rotations.kind === 'OFT') {
        const elements = (b * (b - 1)) / 2;
        const data = normal(blocks * elements, 0, ROTATION_DEVIATION);
        return [{ name: `${prefix}.oft_R.weight`, shape: [blocks, elements], data, dtype }];
      }
      const { factors: m } = rotations;
      const data = normal(m * blocks * b * b, 0, ROTATION_DEVIATION);
      const scale = normal(outFeatures, 1, SCALE_DEVIATION);
      return [
        { name: `${prefix}.boft_R`, shape: [m, blocks, b, b], data, dtype },
        { name: `${prefix}.boft_s`, shape: [outFeatures, 1], data: scale, dtype },
      ];
    },
  );
  mkdirSync(folder);
  writeFileSync(join(folder, WEIGHTS_FILE), writeSafetensors(tensors));
  writeFileSync(
    join(folder, 'adapter_config.json'),
    JSON.stringify(peftConfig(shape, rotations, modules), null, 2),
  );
}

function peftConfig(shape: BertShape, rotations: Rotations, modules: ModuleSet): object {
  const names = adaptedModules({ ...shape, layers: 1 }, modules).map(({ name }) => name);
  const { kind, blockSize } = rotations;
  const own =
    rotations.kind === 'BOFT'
      ? { boft_block_size: blockSize, boft_block_num: 0, boft_n_butterfly_factor: rotations.factors }
      : {
          r: 0,
          oft_block_size: blockSize,
          block_share: false,
          coft: false,
          use_cayley_neumann: rotations.form === 'neumann',
          num_cayley_neumann_terms: 5,
        };
  return {
    peft_type: kind,
    peft_version: '0.21.0',
    // Naming a task would promise a head in the file.
    task_type: null,
    target_modules: names.map((name) => name.replace(/^.*layer\.0\./, '')),
    bias: 'none',
    inference_mode: true,
    ...own,
  };
}
