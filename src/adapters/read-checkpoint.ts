/** What an adapter's files hold, without a base: for people who look. Blocks: not for the HTTP thread. */
import { PapillonError } from '../errors.js';
import { withAdapterFiles } from './adapter-files.js';
import { parsePeftConfig } from './peft-config.js';

export interface CheckpointSummary {
  /** PEFT's `peft_type`. */
  readonly kind: string;
  readonly tensors: readonly {
    readonly name: string;
    readonly dtype: string;
    readonly shape: readonly number[];
  }[];
}

/**
 * @param root folder that the adapter's files may not lead out of.
 * @param folder the adapter's, relative to `root`.
 * @throws PapillonError ADAPTER_… or SAFETENSORS_…: what is wrong with the files
 */
export function readCheckpoint(root: string, folder: string): CheckpointSummary {
  return withAdapterFiles(root, folder, Number.MAX_SAFE_INTEGER, (files) => {
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(files.config);
    } catch (cause) {
      throw new PapillonError('ADAPTER_CONFIG_INVALID', 'adapter_config.json is not UTF-8.', { cause });
    }
    const tensors = [...files.weights.entries.values()].map(({ name, dtype, shape }) => ({
      name,
      dtype,
      shape,
    }));
    return { kind: parsePeftConfig(text).peft_type, tensors };
  });
}
