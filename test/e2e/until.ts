/** Owns waiting: a condition is asked again until it holds, and a time limit makes a failure of a hang. */
import { setTimeout as pause } from 'node:timers/promises';

const INTERVAL_MS = 10;

/** What `ask` gives once it gives something; rejects naming `what` if that takes longer than `timeoutMs`. */
export async function until<T>(
  what: string,
  ask: () => T | undefined | Promise<T | undefined>,
  timeoutMs = 10_000,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
    await pause(INTERVAL_MS);
  }
}
