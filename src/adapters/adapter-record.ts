/** Everything the registry knows of one adapter. Changed only by the registry and its residency. */
import type { PapillonError } from '../errors.js';
import type { AdapterInfo, AdapterMode, AdapterState } from '../types.js';
import type { CatalogueEntry } from './catalogue.js';
import type { AdapterSummary } from './load-adapter.js';

/** One immutable version, as far as it is known outside the executor. */
export interface AdapterVersion extends AdapterSummary {
  /** `id@digest`. */
  readonly key: string;
  readonly digest: string;
  readonly bytes: number;
  readonly residual: number;
}

/** Whoever waits for a load is bound to its result before anything else can evict it. */
export interface Waiting {
  bind(version: AdapterVersion): void;
}

export class AdapterRecord {
  readonly id: string;
  readonly addedAt: number;
  /** Relative to the adapters directory; other than `id` where a load request named a source. */
  folder: string;
  /** Of the files as last seen on disk. */
  fingerprint: string;
  /** What new requests get; its operands may have been evicted. */
  current: AdapterVersion | null = null;
  /** Of the files that `current` was read from. */
  servedFingerprint: string | null = null;
  /** Why these files are refused. */
  failure: { readonly fingerprint: string; readonly error: PapillonError } | null = null;
  /** What a look at the header told. */
  summary: AdapterSummary | null = null;
  loading: Promise<AdapterVersion> | null = null;
  readonly waiting = new Set<Waiting>();
  pinned = false;
  mode: AdapterMode = 'auto';
  unloaded = false;
  removed = false;
  requests = 0;
  lastUsedAt: number | null = null;

  constructor(entry: CatalogueEntry, addedAt: number) {
    this.id = entry.id;
    this.folder = entry.folder;
    this.addedAt = addedAt;
    this.fingerprint = entry.fingerprint;
    this.see(entry);
  }

  /** Takes over what a scan found. Returns whether the files have changed. */
  see(entry: CatalogueEntry): boolean {
    const changed = this.fingerprint !== entry.fingerprint;
    this.folder = entry.folder;
    this.fingerprint = entry.fingerprint;
    if (changed) {
      this.failure = null;
      this.summary = null;
    }
    if (entry.problem !== null) this.failure = { fingerprint: entry.fingerprint, error: entry.problem };
    return changed;
  }

  info(resident: boolean): AdapterInfo {
    const summary = this.current ?? this.summary;
    return {
      id: this.id,
      version: this.current?.digest ?? null,
      state: this.#state(resident),
      tier: resident ? 'host' : 'catalogue',
      kind: summary?.kind ?? null,
      mode: this.mode,
      pinned: this.pinned,
      modules: summary?.moduleNames ?? [],
      bytes: this.current?.bytes ?? null,
      orthogonalityResidual: this.current?.residual ?? null,
      requests: this.requests,
      lastUsedAt: this.lastUsedAt,
      addedAt: this.addedAt,
      error: this.failure && { code: this.failure.error.code, message: this.failure.error.message },
    };
  }

  #state(resident: boolean): AdapterState {
    if (this.unloaded) return 'unloaded';
    if (resident) return 'ready';
    if (this.loading !== null) return 'loading';
    return this.failure === null ? 'available' : 'failed';
  }
}
