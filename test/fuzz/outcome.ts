/** What may come of bad input: a result that is sound, or one of the closed table's errors. Nothing else. */
import assert from 'node:assert/strict';
import { ERROR_CODES, PapillonError } from '#dist/errors.js';

/** Longest message and most memory that bad input may cause. */
const MAX_MESSAGE_CHARACTERS = 2100;
const MAX_ALLOCATED_BYTES = 96 * 1024 * 1024;

export interface Outcomes {
  /** Rounds that succeeded. */
  ok: number;
  /** Rounds by error code. */
  readonly refused: Map<string, number>;
}

export function noOutcomes(): Outcomes {
  return { ok: 0, refused: new Map() };
}

/**
 * Runs one round. Fails unless it returns, or throws a `PapillonError` with a code of the table whose message is one
 * line of bounded length without `folder`; fails too when it allocates without bound.
 */
export function closed<T>(folder: string, outcomes: Outcomes, round: () => T): T | undefined {
  const before = process.memoryUsage().arrayBuffers;
  let result: T | undefined;
  try {
    result = round();
    outcomes.ok++;
  } catch (error) {
    assert.ok(error instanceof PapillonError, `${String(error)}\n${(error as Error).stack ?? ''}`);
    assert.ok(error.code in ERROR_CODES && error.code !== 'INTERNAL', error.code);
    assert.ok(!error.message.includes(folder), error.message);
    assert.ok(error.message.length <= MAX_MESSAGE_CHARACTERS && !error.message.includes('\n'), error.message);
    outcomes.refused.set(error.code, (outcomes.refused.get(error.code) ?? 0) + 1);
  }
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < MAX_ALLOCATED_BYTES, `${grown} bytes were allocated`);
  return result;
}

/** A test of refusals that never refuses, or of nothing else, tests nothing. */
export function assertVaried({ ok, refused }: Outcomes, codes: number): void {
  const seen = [...refused].map(([code, count]) => `${code} ${count}`).join(', ');
  assert.ok(ok > 0, `nothing succeeded: ${seen}`);
  assert.ok(refused.size >= codes, `only ${refused.size} codes: ${seen}`);
}
