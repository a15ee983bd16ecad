/** Reads one adapter or several into one set of operands. Blocks: runs in the loader's thread. */
import { PapillonError } from '../errors.js';
import type { ModuleOperands } from '../types.js';
import { composeOperands } from './compose.js';
import { bytesOf, loadAdapter, type LoadContext, type LoadedAdapter } from './load-adapter.js';

export interface PartSource {
  /** Relative to the adapters directory. */
  readonly folder: string;
  readonly strength: number;
}

export interface LoadedBlend {
  /** Of all parts together. */
  readonly operands: readonly ModuleOperands[];
  /** What each part is by itself. */
  readonly parts: readonly Omit<LoadedAdapter, 'operands'>[];
}

/** @throws whatever is wrong with the files or the composition, having told `failsAt` which part it is about. */
export function loadBlend(
  context: LoadContext,
  sources: readonly PartSource[],
  failsAt: (part: number | null) => void,
): LoadedBlend {
  const loaded = sources.map(({ folder, strength }, part) => {
    failsAt(part);
    return loadAdapter(context, folder, strength);
  });
  failsAt(null);
  const [only, ...others] = loaded;
  const operands =
    only !== undefined && others.length === 0 ? only.operands : compose(loaded, context.maxOperandBytes);
  return { operands, parts: loaded.map(({ operands: _, ...part }) => part) };
}

function compose(loaded: readonly LoadedAdapter[], maxBytes: number): ModuleOperands[] {
  const operands = composeOperands(loaded, maxBytes);
  const bytes = operands.reduce((sum, module) => sum + bytesOf(module), 0);
  if (bytes <= maxBytes) return operands;
  throw new PapillonError(
    'ADAPTER_TOO_LARGE',
    `The composed adapters need ${bytes} bytes of operands; the host cache holds ${maxBytes}.`,
  );
}
