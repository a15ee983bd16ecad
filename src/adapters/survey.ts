/**
 * Looks at the header of every catalogued adapter once, in the background and one after another, so that broken ones
 * are listed as failed and good ones with what they adapt before anybody asks for them.
 */
import { PapillonError } from '../errors.js';
import type { AdapterRecord } from './adapter-record.js';
import type { AdapterLoader } from './loader.js';

export class Survey {
  readonly #loader: AdapterLoader;
  #queue: AdapterRecord[] = [];
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(loader: AdapterLoader) {
    this.#loader = loader;
  }

  /** Looks at those of `records` that nothing is known of, instead of any that were still waiting. */
  add(records: readonly AdapterRecord[]): void {
    this.#queue = records.filter(isUnknown).reverse();
    this.#start();
  }

  /** Resolves when nothing waits any more. */
  async finished(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  close(): void {
    this.#closed = true;
    this.#queue = [];
  }

  #start(): void {
    if (this.#closed || this.#queue.length === 0) return;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
      this.#start();
    });
  }

  async #run(): Promise<void> {
    for (let record = this.#queue.pop(); record !== undefined; record = this.#queue.pop()) {
      if (this.#closed) return;
      if (isUnknown(record)) await this.#look(record);
    }
  }

  async #look(record: AdapterRecord): Promise<void> {
    const { fingerprint } = record;
    try {
      const summary = await this.#loader.inspect(record.folder);
      if (record.fingerprint === fingerprint) record.summary = summary;
    } catch (error) {
      // A thread that died says nothing about the files.
      if (!(error instanceof PapillonError) || error.status >= 500) return;
      if (record.fingerprint === fingerprint) record.failure = { fingerprint, error };
    }
  }
}

function isUnknown({ current, summary, failure, removed, loads }: AdapterRecord): boolean {
  return current === null && summary === null && failure === null && loads === 0 && !removed;
}
