/**
 * Notices changes in the adapters directory: one watch on it and one on each adapter's folder (none per file), and a
 * slow periodic look for file systems that report nothing. Says only that something may have changed.
 */
import { watch, type FSWatcher } from 'node:fs';
import type { Clock } from '../types.js';
import type { WatchedDirectory } from './catalogue.js';

export interface WatcherOptions {
  readonly root: string;
  readonly clock: Clock;
  /** Quiet time after the last event before `onChange`; where events never cease, ten times that after the first. */
  readonly debounceMs: number;
  /** Time after which `onChange` is called without any event. */
  readonly intervalMs: number;
  readonly onChange: () => void;
  /** Called once where the system grants no more watches: from then on only the periodic look is certain. */
  readonly onExhausted: () => void;
}

/** Longest wait for quiet, in debounce times. */
const MAX_DEBOUNCES = 10;

export class DirectoryWatcher {
  readonly #options: WatcherOptions;
  /** By the directory's identity. */
  readonly #folders = new Map<string, FSWatcher>();
  #rootWatcher: FSWatcher | null = null;
  #cancelDebounce: (() => void) | null = null;
  /** When the first event came that `onChange` has not been called for. */
  #changedAt: number | null = null;
  #cancelInterval: (() => void) | null = null;
  #exhausted = false;
  #closed = false;

  constructor(options: WatcherOptions) {
    this.#options = options;
    this.#rootWatcher = this.#watch(options.root);
    this.#scheduleInterval();
  }

  /**
   * Watches exactly these directories from now on. Returns whether watches were added: what happened in those
   * directories just before went unnoticed.
   */
  follow(directories: Iterable<WatchedDirectory>): boolean {
    if (this.#closed) return false;
    const wanted = new Map([...directories].map(({ identity, path }) => [identity, path]));
    for (const [identity, watcher] of this.#folders) {
      if (wanted.has(identity)) continue;
      watcher.close();
      this.#folders.delete(identity);
    }
    let added = false;
    for (const [identity, path] of wanted) {
      if (this.#exhausted) break;
      if (this.#folders.has(identity)) continue;
      const watcher = this.#watch(path);
      if (watcher === null) continue;
      this.#folders.set(identity, watcher);
      added = true;
    }
    return added;
  }

  close(): void {
    this.#closed = true;
    this.#cancelDebounce?.();
    this.#cancelInterval?.();
    this.#rootWatcher?.close();
    for (const watcher of this.#folders.values()) watcher.close();
    this.#folders.clear();
  }

  #watch(directory: string): FSWatcher | null {
    try {
      const watcher = watch(directory, { persistent: false }, () => {
        this.#changed();
      });
      watcher.on('error', () => {
        this.#changed();
      });
      return watcher;
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined;
      if ((code === 'ENOSPC' || code === 'EMFILE') && !this.#exhausted) {
        this.#exhausted = true;
        this.#options.onExhausted();
      }
      return null;
    }
  }

  #changed(): void {
    if (this.#closed) return;
    const { clock, debounceMs, onChange } = this.#options;
    const now = clock.now();
    this.#changedAt ??= now;
    // One adapter that is written all the time must not keep the others from being noticed.
    const latest = this.#changedAt + MAX_DEBOUNCES * debounceMs;
    this.#cancelDebounce?.();
    this.#cancelDebounce = clock.after(Math.max(0, Math.min(debounceMs, latest - now)), () => {
      this.#cancelDebounce = null;
      this.#changedAt = null;
      onChange();
    });
  }

  #scheduleInterval(): void {
    this.#cancelInterval = this.#options.clock.after(this.#options.intervalMs, () => {
      this.#options.onChange();
      this.#scheduleInterval();
    });
  }
}
