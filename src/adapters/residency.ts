/** Brings adapters from disk into the executor: one load at a time for each adapter, swapped in when proven good. */
import { PapillonError, toPlainError } from '../errors.js';
import type { AdapterObserver, Clock, Executor, Logger, ModuleOperands } from '../types.js';
import { unknownAdapter } from './adapter-names.js';
import type { AdapterRecord, AdapterVersion } from './adapter-record.js';
import { readEntry } from './catalogue.js';
import type { HostCache } from './host-cache.js';
import { bytesOf, type LoadedAdapter } from './load-adapter.js';
import type { AdapterLoader } from './loader.js';

export interface ResidencyOptions {
  /** Resolved path of the adapters directory. */
  readonly root: string;
  readonly executor: Executor;
  readonly loader: AdapterLoader;
  readonly cache: HostCache;
  readonly clock: Clock;
  readonly logger?: Logger;
  readonly observer?: AdapterObserver;
}

/** Failures that say nothing about the adapter's files: the next request tries again. */
const TRANSIENT = new Set(['ENGINE_RESTARTED', 'NOT_READY', 'SHUTTING_DOWN', 'INTERNAL', 'UNKNOWN_MODEL']);

/** How often a load is repeated because the executor was lost meanwhile. */
const MAX_ATTEMPTS = 3;

export class Residency {
  readonly #options: ResidencyOptions;
  readonly #bases: ReadonlyMap<string, Float32Array | null>;
  /** Counts the executor's losses: operands attached before one are gone. */
  #epoch = 0;

  constructor(options: ResidencyOptions) {
    this.#options = options;
    this.#bases = new Map(options.executor.model.modules.map(({ name, bias }) => [name, bias]));
    options.executor.onReset(() => {
      this.#epoch++;
      options.cache.clear();
    });
  }

  /**
   * Reads the record's folder and makes the version found there current and resident; a load already under way is
   * joined. Everyone in `record.waiting` is bound to it. Files known to be broken are not read again until they
   * change, unless `again`.
   *
   * @throws PapillonError the adapter's own error; UNKNOWN_MODEL where the folder is gone. What was served before
   * is still served.
   */
  load(record: AdapterRecord, { again = false } = {}): Promise<AdapterVersion> {
    record.loading ??= this.#load(record, again).finally(() => (record.loading = null));
    return record.loading;
  }

  /**
   * Brings an adapter that is served up to its files, after any load under way. Failures stay in the record: what is
   * served goes on being served.
   */
  async refresh(record: AdapterRecord): Promise<void> {
    await record.loading?.catch(() => undefined);
    const { fingerprint, failure } = record;
    if (failure !== null && failure.fingerprint !== fingerprint) record.failure = null;
    if (record.removed || record.unloaded || record.current === null) return;
    if (record.servedFingerprint === fingerprint || record.failure !== null) return;
    await this.load(record).catch(() => undefined);
  }

  async #load(record: AdapterRecord, again: boolean): Promise<AdapterVersion> {
    const { clock, observer, logger } = this.#options;
    const started = clock.now();
    const fingerprint = { value: record.fingerprint };
    let outcome = 'ok';
    try {
      return await this.#read(record, again, fingerprint);
    } catch (error) {
      const { code, message } = toPlainError(error);
      const failure = error instanceof PapillonError ? error : new PapillonError(code, message);
      outcome = code;
      if (!TRANSIENT.has(code)) record.failure = { fingerprint: fingerprint.value, error: failure };
      logger?.warn({ adapter: record.id, code, reason: message }, 'adapter refused');
      throw failure;
    } finally {
      record.waiting.clear();
      observer?.loaded({ seconds: (clock.now() - started) / 1000, outcome });
    }
  }

  async #read(record: AdapterRecord, again: boolean, fingerprint: { value: string }): Promise<AdapterVersion> {
    const { root, loader, executor, cache } = this.#options;
    // A load request may name another folder meanwhile.
    const { folder } = record;
    const entry = await readEntry(root, record.id, folder, executor.model.id);
    if (entry === null) throw unknownAdapter(record.id, []);
    fingerprint.value = entry.fingerprint;
    record.fingerprint = entry.fingerprint;
    if (entry.problem !== null) throw entry.problem;
    const known = record.failure;
    if (!again && known?.fingerprint === entry.fingerprint) throw known.error;
    for (let attempt = 1; ; attempt++) {
      const epoch = this.#epoch;
      const loaded = await loader.load(folder);
      const operands = this.#withoutUnchangedBiases(loaded.operands);
      const version = describe(record.id, loaded, operands);
      if (!cache.has(version.key)) {
        await executor.attach({ key: version.key, modules: operands, bytes: version.bytes });
        if (epoch !== this.#epoch && attempt < MAX_ATTEMPTS) continue;
        if (epoch !== this.#epoch) {
          throw new PapillonError('ENGINE_RESTARTED', 'The engine was restarted while the adapter was loaded.', {
            retryAfterSeconds: 1,
          });
        }
      }
      this.#swapIn(record, version, entry.fingerprint);
      return version;
    }
  }

  /** Without awaiting, so that nobody sees a half-made change. */
  #swapIn(record: AdapterRecord, version: AdapterVersion, fingerprint: string): void {
    const { cache, logger } = this.#options;
    const hold = cache.add(version.key, version.bytes);
    const previous = record.current;
    record.failure = null;
    record.summary = null;
    record.current = version;
    record.servedFingerprint = fingerprint;
    for (const waiting of record.waiting) waiting.bind(version);
    cache.pin(version.key, record.pinned);
    if (previous !== null && previous.key !== version.key) {
      cache.retire(previous.key);
      logger?.info({ adapter: record.id, from: previous.digest, to: version.digest }, 'adapter replaced');
    }
    if (record.removed || record.unloaded) {
      record.current = null;
      cache.retire(version.key);
    }
    hold.release();
  }

  /** `bias: all` saves every bias of the model, most of them as they were: those need no operand. */
  #withoutUnchangedBiases(operands: readonly ModuleOperands[]): readonly ModuleOperands[] {
    return operands.flatMap((operand): ModuleOperands[] => {
      const { bias, ...rest } = operand;
      const base = this.#bases.get(operand.module) ?? null;
      if (bias === undefined || base === null || !bias.every((value, i) => value === base[i])) return [operand];
      return Object.keys(rest).length > 1 ? [rest] : [];
    });
  }
}

function describe(id: string, loaded: LoadedAdapter, operands: readonly ModuleOperands[]): AdapterVersion {
  const { kind, digest, moduleNames, residual } = loaded;
  const bytes = operands.reduce((sum, operand) => sum + bytesOf(operand), 0);
  return { key: `${id}@${digest}`, digest, kind, moduleNames, residual, bytes };
}
