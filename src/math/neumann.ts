/** OFT's packed skew matrices and their polynomial (Cayley–Neumann) rotations, in float64. */

/**
 * Unpacks strict upper triangles, row by row, into skew matrices: S[i, j] = v, S[j, i] = −v (no factor ½).
 *
 * @param packed [count, b(b−1)/2].
 * @returns [count, b, b] float64.
 * @throws RangeError where the lengths do not fit.
 */
export function unpackSkew(packed: Float32Array | Float64Array, count: number, b: number): Float64Array {
  const perBlock = (b * (b - 1)) / 2;
  if (packed.length !== count * perBlock) {
    throw new RangeError(`expected ${count} triangles of ${perBlock}, got ${packed.length} numbers`);
  }
  const skew = new Float64Array(count * b * b);
  for (let block = 0; block < count; block++) {
    const offset = block * b * b;
    let next = block * perBlock;
    for (let i = 0; i < b; i++) {
      for (let j = i + 1; j < b; j++) {
        skew[offset + i * b + j] = packed[next] as number;
        skew[offset + j * b + i] = -(packed[next] as number);
        next++;
      }
    }
  }
  return skew;
}

/**
 * Σ_k c_k S^k for each block, with c_0 = 1 (Horner's rule).
 *
 * @param skew S, [count, b, b] float64.
 * @param coefficients c_0 … c_T.
 * @returns [count, b, b] float64; orthogonal only up to the truncation of the series.
 */
export function polynomial(
  skew: Float64Array,
  count: number,
  b: number,
  coefficients: readonly number[],
): Float64Array {
  const result = new Float64Array(skew.length);
  const scratch = new Float64Array(b * b);
  for (let block = 0; block < count; block++) {
    const s = skew.subarray(block * b * b, (block + 1) * b * b);
    const sum = result.subarray(block * b * b, (block + 1) * b * b);
    for (let power = coefficients.length - 1; power >= 0; power--) {
      scratch.fill(0);
      for (let i = 0; i < b; i++) {
        for (let k = 0; k < b; k++) {
          const factor = sum[i * b + k] as number;
          if (factor === 0) continue;
          for (let j = 0; j < b; j++) {
            scratch[i * b + j] = (scratch[i * b + j] as number) + factor * (s[k * b + j] as number);
          }
        }
        scratch[i * b + i] = (scratch[i * b + i] as number) + (coefficients[power] as number);
      }
      sum.set(scratch);
    }
  }
  return result;
}
