/** How the server packs by default. */
import { OPTIONS } from '#dist/config.js';
import { maxRowsOfLength } from '#dist/scheduler/packing.js';

/** Rows of `length` tokens that fit one batch under the default budgets of rows and tokens. */
export function rowsPerBatch(length: number): number {
  const { maxBatchRows, maxBatchTokens } = OPTIONS;
  return maxRowsOfLength(length, {
    maxBatchRows: maxBatchRows.fallback?.({}) ?? 1,
    maxBatchTokens: maxBatchTokens.fallback?.({}) ?? 1,
    maxPaddingRatio: 1,
  });
}
