/** Owns the look-up of a path's model and version: the base or an adapter, by name; versions by digest. */
import { PapillonError } from '../errors.js';
import { quote } from '../protocols/open-inference/index.js';
import type { AdapterInfo, ServingEngine } from '../types.js';

export interface ModelTarget {
  readonly name: string;
  /** null: an adapter whose files were not read yet. */
  readonly version: string | null;
  /** null: the base. */
  readonly adapter: AdapterInfo | null;
}

/** Unloaded adapters are found too. Throws UNKNOWN_MODEL. */
export function findModel(engine: ServingEngine, name: string): ModelTarget {
  if (name === engine.model.id) return { name, version: engine.model.digest, adapter: null };
  const adapter = engine.adapters.info(name);
  if (adapter === undefined) {
    throw new PapillonError('UNKNOWN_MODEL', `There is no model or adapter named ${quote(name)}`);
  }
  return { name, version: adapter.version, adapter };
}

export function unknownVersion(name: string, version: string): PapillonError {
  return new PapillonError('UNKNOWN_MODEL', `${quote(name)} is not served in version ${quote(version)}`);
}

/** Throws UNKNOWN_MODEL unless `version` is the one that new requests get. */
export function requireVersion(target: ModelTarget, version: string): void {
  if (target.version !== version) throw unknownVersion(target.name, version);
}

/**
 * The same for a request about to run: an adapter's version that is not known yet is found out by loading it.
 * Rejects with UNKNOWN_MODEL or the adapter's own error.
 */
export async function requireServedVersion(
  engine: ServingEngine,
  target: ModelTarget,
  version: string,
): Promise<void> {
  if (target.adapter === null || target.version !== null) {
    requireVersion(target, version);
    return;
  }
  const lease = engine.adapters.lease(target.name);
  try {
    await lease.whenReady();
    if (lease.version !== version) throw unknownVersion(target.name, version);
  } finally {
    lease.release();
  }
}
