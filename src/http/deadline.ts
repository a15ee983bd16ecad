/** Owns how long a client is willing to wait. */
import type { Request } from 'express';
import { PapillonError } from '../errors.js';

const HEADER = 'X-Request-Timeout-Ms';
const NUMBER = /^\d{1,12}(?:\.\d{1,6})?$/;

/**
 * Absolute time, in the clock's milliseconds, after which the answer is worthless: the sooner of the header
 * X-Request-Timeout-Ms and `timeoutMs` after `startedAt`; undefined without both (0 means none).
 * Throws INVALID_REQUEST.
 */
export function deadlineOf(
  req: Request,
  startedAt: number,
  timeoutMs: number | null = null,
): number | undefined {
  const header = req.get(HEADER);
  if (header !== undefined && !NUMBER.test(header)) {
    throw new PapillonError('INVALID_REQUEST', `${HEADER} must be a number of milliseconds`);
  }
  const limits = [header === undefined ? 0 : Number(header), timeoutMs ?? 0].filter((limit) => limit > 0);
  return limits.length === 0 ? undefined : startedAt + Math.min(...limits);
}
