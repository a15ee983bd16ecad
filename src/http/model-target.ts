/** Owns the look-up of a path's model and version: the base or an adapter, by name; versions by digest. */
import { PapillonError } from '../errors.js';
import { quote } from '../protocols/open-inference/index.js';
import type { AdapterState, ServingEngine } from '../types.js';
import type { AdapterChoice } from './adapter-choice.js';

export interface ModelTarget {
  /** Without strengths. */
  readonly name: string;
  /** null: an adapter whose files were not read yet. */
  readonly version: string | null;
  /** null: the base. */
  readonly state: AdapterState | null;
  /** Of an adapter's own head. */
  readonly labels: readonly string[] | null;
}

/** Unloaded adapters are found too. Throws UNKNOWN_MODEL, and what else `AdapterSource.resolve` throws. */
export function findModel(engine: ServingEngine, name: string): ModelTarget {
  if (name === engine.model.id) return { name, version: engine.model.digest, state: null, labels: null };
  const { id, version, state, labels } = engine.adapters.resolve(name);
  return { name: id, version, state, labels };
}

const STRENGTHS = /\*[^+]*/g;

/** Whether `served` is what `version` names: the strengths in it may be left out. */
export function isVersion(served: string | null, version: string): boolean {
  return served !== null && (served === version || served.replace(STRENGTHS, '') === version);
}

export function unknownVersion(name: string, version: string): PapillonError {
  return new PapillonError('UNKNOWN_MODEL', `${quote(name)} is not served in version ${quote(version)}`);
}

/** Throws UNKNOWN_MODEL unless `version` is the one that new requests get. */
export function requireVersion(target: ModelTarget, version: string): void {
  if (!isVersion(target.version, version)) throw unknownVersion(target.name, version);
}

/**
 * The same for a request about to run: an adapter's version that is not known yet is found out by loading it.
 * Rejects with UNKNOWN_MODEL or the adapter's own error.
 */
export async function requireServedVersion(
  engine: ServingEngine,
  { adapterId, strength, id, version: known }: AdapterChoice,
  version: string,
): Promise<void> {
  let served = known;
  if (served === null && adapterId !== null) {
    const lease = engine.adapters.lease(adapterId, strength === undefined ? {} : { strength });
    try {
      await lease.whenReady();
      served = lease.version;
    } finally {
      lease.release();
    }
  }
  if (!isVersion(served, version)) throw unknownVersion(id, version);
}
