/** Owns the budgets of a batch: what fits beside what is in it already. */

/** The budgets a batch must keep. */
export interface BatchLimits {
  readonly maxBatchRows: number;
  /** Bound of rows × longest length, padding included. */
  readonly maxBatchTokens: number;
  /** Bound of padded tokens ÷ real tokens, ≥ 1. */
  readonly maxPaddingRatio: number;
}

/** Anything with an extent in rows and along the padded axis. */
export interface Sized {
  readonly rows: number;
  readonly length: number;
}

/**
 * Rows of one length that fit a batch by themselves. At least 1: a row longer than the token budget cannot be
 * cut, so it runs alone.
 */
export function maxRowsOfLength(length: number, limits: BatchLimits): number {
  return Math.max(1, Math.min(limits.maxBatchRows, Math.floor(limits.maxBatchTokens / length)));
}

/**
 * Lengths of one bucket differ by less than the padding bound, so that a bucket's requests always share a
 * batch: floor(log_ratio(length)).
 */
export function lengthBucket(length: number, maxPaddingRatio: number): number {
  return maxPaddingRatio > 1 ? Math.floor(Math.log(length) / Math.log(maxPaddingRatio)) : length;
}

/**
 * A batch being put together. Invariant, for more than one item: rows ≤ maxBatchRows,
 * rows × length ≤ maxBatchTokens, rows × length ≤ maxPaddingRatio × tokens.
 */
export class Packing<T extends Sized> {
  readonly items: T[] = [];
  readonly #limits: BatchLimits;
  #rows = 0;
  #tokens = 0;
  #length = 0;

  constructor(limits: BatchLimits) {
    this.#limits = limits;
  }

  get rows(): number {
    return this.#rows;
  }

  /** Σ rows × own length. */
  get tokens(): number {
    return this.#tokens;
  }

  /** rows × longest length. */
  get paddedTokens(): number {
    return this.#rows * this.#length;
  }

  /** Not even one more row of the longest length fits. */
  get isFull(): boolean {
    return (
      this.#rows >= this.#limits.maxBatchRows ||
      this.paddedTokens + this.#length > this.#limits.maxBatchTokens
    );
  }

  /**
   * An empty batch takes anything. Padding counts even when the batch is nearly empty: two batches of their
   * own lengths cost less than one padded batch wherever time grows with tokens.
   */
  canTake(item: T): boolean {
    if (this.items.length === 0) return true;
    const rows = this.#rows + item.rows;
    const padded = rows * Math.max(this.#length, item.length);
    const tokens = this.#tokens + item.rows * item.length;
    return (
      rows <= this.#limits.maxBatchRows &&
      padded <= this.#limits.maxBatchTokens &&
      padded <= this.#limits.maxPaddingRatio * tokens
    );
  }

  add(item: T): void {
    this.items.push(item);
    this.#rows += item.rows;
    this.#tokens += item.rows * item.length;
    this.#length = Math.max(this.#length, item.length);
  }
}
