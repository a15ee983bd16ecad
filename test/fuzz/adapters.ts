/** Good adapters for the tests to damage, and what an adapter that loads must be. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAdapter } from '#dist/adapters/index.js';
import type { LoadContext, LoadedAdapter } from '#dist/adapters/index.js';
import type { ModuleOperands } from '#dist/types.js';
import { boftTensors, numbers, safetensors } from '../adapters/support.js';
import type { Tensors } from '../adapters/support.js';

const MODULES: LoadContext['modules'] = [
  { name: 'encoder.query', kind: 'linear', inFeatures: 8, outFeatures: 6, isHead: false },
  { name: 'encoder.conv', kind: 'convolution', inFeatures: 12, outFeatures: 5, isHead: false },
  { name: 'encoder.norm', kind: 'normalization', inFeatures: 6, outFeatures: 6, isHead: false },
  { name: 'encoder.words', kind: 'embedding', inFeatures: 8, outFeatures: 8, isHead: false },
  { name: 'classifier', kind: 'linear', inFeatures: 6, outFeatures: 3, isHead: true },
];

/** Most that an adapter of these modules may need; far less than what damaged files claim. */
export function contextOf(root: string): LoadContext {
  return { root, modules: MODULES, maxOperandBytes: 2 ** 20, maxFileBytes: 2 ** 20 };
}

export interface GoodAdapter {
  readonly about: string;
  readonly config: object;
  readonly weights: Buffer;
}

function head(rows: number): Tensors {
  return {
    'base_model.model.classifier.weight': { shape: [rows, 6], values: numbers(rows * 6, 3) },
    'base_model.model.classifier.bias': { shape: [rows], values: numbers(rows, 4) },
  };
}

/** Bit patterns of 1 + k/128 in bfloat16. */
function bfloats(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 0x3f80 + (i % 64));
}

const query = (parameter: string): string => `base_model.model.encoder.query.${parameter}`;

export const GOOD: readonly GoodAdapter[] = [
  {
    about: 'BOFT with m = 2, a bias and a head',
    config: {
      peft_type: 'BOFT',
      task_type: 'SEQ_CLS',
      bias: 'boft_only',
      boft_block_size: 2,
      boft_block_num: 0,
      boft_n_butterfly_factor: 2,
      fan_in_fan_out: false,
      target_modules: ['query'],
      modules_to_save: ['classifier'],
    },
    weights: safetensors({
      ...boftTensors('encoder.query', { m: 2, D: 4, b: 2, out: 6 }),
      [query('base_layer.bias')]: { shape: [6], values: numbers(6) },
      ...head(3),
    }),
  },
  {
    about: 'BOFT of a convolution and half precision',
    config: { peft_type: 'BOFT', peft_version: '0.19.0', bias: 'none', boft_block_size: 3 },
    weights: safetensors({
      'base_model.model.encoder.conv.boft_R': { shape: [1, 4, 3, 3], values: bfloats(36), dtype: 'BF16' },
      'base_model.model.encoder.conv.boft_s': { shape: [1, 5], values: bfloats(5), dtype: 'F16' },
      'base_model.model.encoder.norm.bias': { shape: [6], values: numbers(6) },
    }),
  },
  {
    about: 'OFT of today',
    config: {
      peft_type: 'OFT',
      peft_version: '0.19.1',
      r: 0,
      oft_block_size: 4,
      coft: true,
      eps: 0.01,
      block_share: false,
      use_cayley_neumann: true,
      num_cayley_neumann_terms: 5,
      target_modules: 'query',
    },
    weights: safetensors({ [query('oft_R.weight')]: { shape: [2, 6], values: numbers(12, 1, 0.05) } }),
  },
  {
    about: 'OFT of 0.15',
    config: { peft_type: 'OFT', r: 2, oft_block_size: 0, block_share: true },
    weights: safetensors({
      [query('oft_r')]: { shape: [1, 4, 4], values: numbers(16) },
      [query('oft_s')]: { shape: [6, 1], values: numbers(6) },
    }),
  },
  {
    about: 'OFT of 0.13, which rotates results',
    config: { peft_type: 'OFT', r: 2, module_dropout: 0 },
    weights: safetensors({ [query('oft_r')]: { shape: [2, 3, 3], values: numbers(18) } }),
  },
];

/** Anew: some file systems wait for the disk when a file is emptied and written again. */
export function replaceFile(path: string, content: string | Uint8Array): void {
  rmSync(path, { force: true });
  writeFileSync(path, content);
}

/** Writes an adapter's folder in place and loads it. */
export function load(context: LoadContext, config: string | Uint8Array, weights: Uint8Array): LoadedAdapter {
  const folder = join(context.root, 'fuzzed');
  replaceFile(join(folder, 'adapter_config.json'), config);
  replaceFile(join(folder, 'adapter_model.safetensors'), weights);
  return loadAdapter(context, 'fuzzed');
}

function arraysOf({ rotation, outputRotation, scale, bias, weight }: ModuleOperands): Float32Array[] {
  const arrays = [rotation?.blocks, outputRotation?.blocks, scale, bias, weight];
  return arrays.filter((array) => array !== undefined);
}

/** Finite, and of the sizes that the base's modules have. */
export function assertSound({ operands, residual, bytes }: LoadedAdapter): void {
  assert.ok(Number.isFinite(residual) && residual >= 0, `residual ${residual}`);
  let total = 0;
  for (const own of operands) {
    const module = MODULES.find(({ name }) => name === own.module);
    assert.ok(module, own.module);
    const { inFeatures: d, outFeatures: n } = module;
    const rows = own.weight ? own.weight.length / d : n;
    assert.ok(Number.isInteger(rows) && (rows === n || module.isHead === true));
    assert.equal(own.rotation?.blocks.length ?? 0, d * (own.rotation?.blockSize ?? 0));
    assert.equal(own.outputRotation?.blocks.length ?? 0, n * (own.outputRotation?.blockSize ?? 0));
    for (const vector of [own.scale, own.bias]) assert.ok(!vector || [n, rows].includes(vector.length));
    for (const array of arraysOf(own)) {
      assert.ok(array.every(Number.isFinite), `'${own.module}' has values that are not finite`);
      total += array.byteLength;
    }
  }
  assert.equal(total, bytes);
}
