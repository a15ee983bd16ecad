/** Owns the engine's one timer. */
import type { Clock } from '../types.js';

export class Wakeup {
  readonly #clock: Clock;
  readonly #callback: () => void;
  #set: { readonly atMs: number; readonly cancel: () => void } | null = null;

  constructor(clock: Clock, callback: () => void) {
    this.#clock = clock;
    this.#callback = callback;
  }

  /**
   * Calls back at `atMs`, or earlier if that was asked for before: the callback looks for itself what is due,
   * so a timer that moved back need not be set anew for every request. null: not at all.
   */
  at(atMs: number | null): void {
    if (atMs !== null && this.#set !== null && this.#set.atMs <= atMs) return;
    this.#set?.cancel();
    this.#set = null;
    if (atMs === null) return;
    const cancel = this.#clock.after(Math.max(0, atMs - this.#clock.now()), () => {
      this.#set = null;
      this.#callback();
    });
    this.#set = { atMs, cancel };
  }
}
