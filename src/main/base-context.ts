/** What a base means for adapters: its modules' shapes, its map of names, the limits of what is read. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { LoadContext } from '../adapters/index.js';
import { ConfigError } from '../config.js';
import type { OnnxExecutor } from '../runtime/index.js';
import type { BaseModule } from '../types.js';

/** Optional file in the model folder: `{"modules": {"<PEFT module>": "<module as the graph names it>"}}`. */
export const MAP_FILE = 'papillon.json';

const mapSchema = z.object({ modules: z.record(z.string(), z.string()).default({}) });

/** Most bytes of an adapter's weights file. */
const MAX_ADAPTER_FILE_BYTES = 2 ** 31 - 1;

function readNameMap(folder: string): ReadonlyMap<string, string> {
  const file = join(folder, MAP_FILE);
  if (!existsSync(file)) return new Map();
  try {
    return new Map(Object.entries(mapSchema.parse(JSON.parse(readFileSync(file, 'utf8'))).modules));
  } catch {
    throw new ConfigError(
      `${MAP_FILE} in the model folder must be JSON like {"modules": {"PEFT module": "module as the graph names it"}}`,
    );
  }
}

/** What loading is told of a base beside its modules. */
export interface BaseTraits {
  readonly modules: readonly Pick<
    BaseModule,
    'name' | 'kind' | 'inFeatures' | 'outFeatures' | 'isHead' | 'bias'
  >[];
  /** Layers of the export that are no sites in the optimised graph. */
  readonly lost?: readonly string[];
  readonly packedAttention?: boolean;
}

export interface LoadLimits {
  readonly maxOperandBytes: number;
  readonly selfCheck: boolean;
}

/** For commands that look at one adapter. */
export const UNLIMITED: LoadLimits = { maxOperandBytes: Number.MAX_SAFE_INTEGER, selfCheck: true };

export function traitsOf(executor: OnnxExecutor): BaseTraits {
  const { model, lost, packedAttention } = executor.opened;
  return { modules: model.modules, lost, packedAttention };
}

function hintOf({ lost = [], packedAttention = false }: BaseTraits): string | undefined {
  if (packedAttention) {
    return (
      'The base was optimised before: its attention computes query, key and value from one packed weight, in front of ' +
      'which nothing can be rotated. Give the model as its exporter wrote it.'
    );
  }
  if (lost.length === 0) return undefined;
  const named = lost.slice(0, 3).join(', ');
  return (
    `Layers like ${named} are computed inside operators of the base that adapters cannot enter. ` +
    'Give the model as its exporter wrote it, in floats or quantised by ONNX Runtime.'
  );
}

export function loadContext(
  root: string,
  modelFolder: string,
  base: BaseTraits,
  { maxOperandBytes, selfCheck }: LoadLimits,
): LoadContext {
  const hint = hintOf(base);
  return {
    root,
    modules: base.modules.map(({ name, kind, inFeatures, outFeatures, isHead, bias }) => ({
      name,
      kind,
      inFeatures,
      outFeatures,
      isHead: isHead === true,
      hasBias: bias !== null,
    })),
    nameMap: readNameMap(modelFolder),
    maxOperandBytes,
    maxFileBytes: MAX_ADAPTER_FILE_BYTES,
    selfCheck,
    ...(hint !== undefined && { hint }),
  };
}
