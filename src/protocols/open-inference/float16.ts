/** Owns the conversion between numbers and IEEE 754 binary16 bit patterns. Pure. */

const SIGN = 0x8000;
const INFINITY_BITS = 0x7c00;
const NAN_BITS = 0x7e00;
/** Adding and subtracting 2^52 rounds a smaller double to a whole number, ties to even. */
const ROUNDER = 2 ** 52;

function exponentOf(magnitude: number): number {
  let exponent = Math.floor(Math.log2(magnitude));
  // log2 is rounded, so it may be one off next to a power of two.
  if (2 ** exponent > magnitude) exponent -= 1;
  else if (2 ** (exponent + 1) <= magnitude) exponent += 1;
  return exponent;
}

/**
 * The binary16 nearest to `value`, ties to even, straight from the double (a detour over float32 would round
 * twice). From 65520 on the result is infinite.
 */
export function toHalfBits(value: number): number {
  if (Number.isNaN(value)) return NAN_BITS;
  const sign = value < 0 || Object.is(value, -0) ? SIGN : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 65520) return sign | INFINITY_BITS;
  // Subnormals count in steps of 2^-24; rounding up to 1024 of them carries into the smallest normal.
  if (magnitude < 2 ** -14) return sign | (magnitude * 2 ** 24 + ROUNDER - ROUNDER);
  const exponent = exponentOf(magnitude);
  const significand = magnitude * 2 ** (10 - exponent) + ROUNDER - ROUNDER;
  return sign | (((exponent + 15) << 10) + (significand - 1024));
}

/** The value of a binary16 bit pattern; exact. */
export function fromHalfBits(bits: number): number {
  const sign = bits & SIGN ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}
