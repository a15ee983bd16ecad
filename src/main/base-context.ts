/** What a base means for adapters: its modules' shapes, its map of names, the limits of what is read. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { LoadContext } from '../adapters/index.js';
import { ConfigError } from '../config.js';
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

export function loadContext(
  root: string,
  modelFolder: string,
  modules: readonly Pick<BaseModule, 'name' | 'kind' | 'inFeatures' | 'outFeatures' | 'isHead' | 'bias'>[],
  maxOperandBytes: number,
): LoadContext {
  return {
    root,
    modules: modules.map(({ name, kind, inFeatures, outFeatures, isHead, bias }) => ({
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
  };
}
