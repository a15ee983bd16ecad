/** Owns the bounds on what one request may ask for. */

export interface OpenInferenceLimits {
  /** Inputs, and likewise outputs, of one request. */
  readonly maxTensors: number;
  readonly maxRank: number;
  /** Elements of one tensor. */
  readonly maxElements: number;
}

export const DEFAULT_LIMITS: OpenInferenceLimits = Object.freeze({
  maxTensors: 1024,
  maxRank: 8,
  maxElements: 2 ** 26,
});
