/** Owns the wording of the engine's own errors. */
import { PapillonError } from '../errors.js';
import type { ErrorCode } from '../errors.js';
import type { ExecutorState } from '../types.js';

export function clientClosed(): PapillonError {
  return new PapillonError('CLIENT_CLOSED', 'the client closed the connection before the answer');
}

export function deadlineExceeded(): PapillonError {
  return new PapillonError(
    'DEADLINE_EXCEEDED',
    'the request waited longer than its deadline allows and did not run; allow more time or send less at once',
  );
}

function shuttingDown(): PapillonError {
  return new PapillonError(
    'SHUTTING_DOWN',
    'the server is shutting down; send the request to another replica',
    {
      retryAfterSeconds: 1,
    },
  );
}

export function tooManyRows(rows: number, maxRows: number): PapillonError {
  return new PapillonError(
    'TOO_MANY_ROWS',
    `the request has ${String(rows)} rows; at most ${String(maxRows)} are accepted at once`,
  );
}

export function outputsMissing(): PapillonError {
  return new PapillonError('INTERNAL', 'the batch came back without the outputs of this request');
}

/** For an executor that takes no work. */
export function outOfService(state: ExecutorState): PapillonError {
  if (state === 'closed') return shuttingDown();
  const message =
    state === 'failed'
      ? 'the model could not be restarted; the operator has to look at the server'
      : 'the model is still being loaded; retry later';
  return new PapillonError('NOT_READY', message, { retryAfterSeconds: state === 'failed' ? 30 : 1 });
}

/**
 * Throws SHUTTING_DOWN or NOT_READY where no request may be admitted. While a lost worker is being restarted
 * requests may queue: their wait is bounded by their deadlines.
 */
export function requireService(state: ExecutorState, isDraining: boolean): void {
  if (isDraining) throw shuttingDown();
  if (state !== 'ready' && state !== 'restarting') throw outOfService(state);
}

/** A lost worker is back soon, and the error that crossed the thread has lost its hint. */
export function withRetryAfter(error: PapillonError): PapillonError {
  if (error.code !== 'ENGINE_RESTARTED' || error.retryAfterSeconds !== undefined) return error;
  return new PapillonError(error.code, error.message, { retryAfterSeconds: 1, cause: error });
}

/** What is not a `PapillonError` may name files or addresses in its message: that stays in `cause`, for the log. */
export function asPapillonError(error: unknown, code: ErrorCode): PapillonError {
  if (error instanceof PapillonError) return error;
  return new PapillonError(code, "unexpected failure; the server's log has the cause", { cause: error });
}
