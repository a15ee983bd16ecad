/** Owns the recent speed of the device, from which waiting times are estimated. */

/** Weight of the newest batch in the running mean. */
const NEWEST = 0.25;

export class Throughput {
  #msPerToken: number | null = null;

  /** A batch of `paddedTokens` took `deviceMs` of the device's time. */
  record(paddedTokens: number, deviceMs: number): void {
    if (paddedTokens <= 0) return;
    const measured = deviceMs / paddedTokens;
    this.#msPerToken =
      this.#msPerToken === null ? measured : this.#msPerToken + NEWEST * (measured - this.#msPerToken);
  }

  /** Estimated milliseconds of device time, or null before the first batch. */
  expectedMs(tokens: number): number | null {
    return this.#msPerToken === null ? null : tokens * this.#msPerToken;
  }
}
