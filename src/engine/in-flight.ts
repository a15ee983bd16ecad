/** Owns the count of batches that the executor has, and the forecast of when it will have done them. */
import type { DeviceForecast } from '../scheduler/collecting-window.js';

export class InFlight {
  readonly #max: number;
  #count = 0;
  #freeAtMs = 0;
  #batchMs = 0;

  /** With `max` = 2 the next batch is prepared while one runs. */
  constructor(max: number) {
    this.#max = max;
  }

  get count(): number {
    return this.#count;
  }

  get canStart(): boolean {
    return this.#count < this.#max;
  }

  /** null while the executor has nothing to do. */
  get forecast(): DeviceForecast | null {
    return this.#count === 0 ? null : { freeAtMs: this.#freeAtMs, batchMs: this.#batchMs };
  }

  /** `expectedMs` null: no estimate yet, so the device is taken to come free at once. */
  started(nowMs: number, expectedMs: number | null): void {
    const from = this.#count === 0 ? nowMs : Math.max(nowMs, this.#freeAtMs);
    this.#count += 1;
    this.#batchMs = expectedMs ?? 0;
    this.#freeAtMs = from + this.#batchMs;
  }

  finished(): void {
    this.#count -= 1;
  }
}
