/** The Cayley transform from unconstrained blocks to orthogonal ones, in float64. */
import { solveInPlace } from './linear-solve.js';

/**
 * Q = (I − αS)(I + αS)⁻¹ with S = (A − Aᵀ)/2, for each block.
 *
 * @param blocks A, [count, b, b] row-major; any float type.
 * @param strength α: 1 applies the adapter as trained, 0 gives I. Q is orthogonal for every finite α.
 * @returns [count, b, b] float64. A block whose entries are too large to be solved in float64 comes back as NaN:
 * check with `orthogonalityResidual`.
 * @throws RangeError where the lengths do not fit.
 */
export function cayley(
  blocks: Float32Array | Float64Array,
  count: number,
  b: number,
  strength = 1,
): Float64Array {
  if (blocks.length !== count * b * b) {
    throw new RangeError(`expected ${count} blocks of ${b} × ${b}, got ${blocks.length} numbers`);
  }
  const q = new Float64Array(count * b * b);
  const denominator = new Float64Array(b * b);
  for (let block = 0; block < count; block++) {
    const offset = block * b * b;
    // Both factors are functions of S, so they commute: (I + S) Q = I − S needs one solve and no product.
    const numerator = q.subarray(offset, offset + b * b);
    for (let i = 0; i < b; i++) {
      for (let j = 0; j < b; j++) {
        const s =
          (strength * ((blocks[offset + i * b + j] as number) - (blocks[offset + j * b + i] as number))) / 2;
        const unit = i === j ? 1 : 0;
        denominator[i * b + j] = unit + s;
        numerator[i * b + j] = unit - s;
      }
    }
    if (!solveInPlace(denominator, numerator, b)) numerator.fill(NaN);
  }
  return q;
}

/** Whether A − Aᵀ = 0 for every block [count, b, b]: then Q = I whatever the strength. */
export function isSymmetric(blocks: Float32Array | Float64Array, count: number, b: number): boolean {
  for (let block = 0; block < count; block++) {
    const offset = block * b * b;
    for (let i = 0; i < b; i++) {
      for (let j = 0; j < i; j++) {
        if (blocks[offset + i * b + j] !== blocks[offset + j * b + i]) return false;
      }
    }
  }
  return true;
}
