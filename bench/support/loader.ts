/** The server's adapter loader without a server around it. */
import { realpathSync } from 'node:fs';
import { AdapterLoader } from '#dist/adapters/loader.js';
import type { BaseModule } from '#dist/types.js';
import { loadContext } from '#dist/main/base-context.js';
import { adaptedModules } from '../adapters.js';
import type { BenchModel } from '../shapes.js';

/** More than any of the adapters needs. */
const MAX_OPERAND_BYTES = 2 ** 32;

/** Loads adapters of all linear layers of the encoder from folders in `root`. Its thread starts with the first. */
export function openLoader(model: BenchModel, root: string): AdapterLoader {
  const modules = adaptedModules(model.shape, 'all').map(({ name, inFeatures, outFeatures }): BaseModule => ({
    name,
    kind: 'linear',
    inFeatures,
    outFeatures,
    bias: new Float32Array(outFeatures),
  }));
  return new AdapterLoader(
    loadContext(
      realpathSync(root),
      model.folder,
      { modules },
      { maxOperandBytes: MAX_OPERAND_BYTES, selfCheck: true },
    ),
  );
}
