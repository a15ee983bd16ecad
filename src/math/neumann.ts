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
 * Σ_k c_k S^k for each block. Powers of a skew S are symmetric and skew by turns, so half of each is computed.
 *
 * @param skew S, [count, b, b] float64, S = −Sᵀ.
 * @param coefficients c_0 … c_T.
 * @returns [count, b, b] float64; orthogonal only up to the truncation of the series.
 */
export function polynomial(
  skew: Float64Array,
  count: number,
  b: number,
  coefficients: readonly number[],
): Float64Array {
  const [c0 = 0, c1 = 0, ...higher] = coefficients;
  const result = new Float64Array(count * b * b);
  let power = new Float64Array(b * b);
  let next = new Float64Array(b * b);
  for (let offset = 0; offset < result.length; offset += b * b) {
    for (let i = 0; i < b * b; i++) result[offset + i] = c1 * (skew[offset + i] as number);
    for (let i = 0; i < b * b; i += b + 1) result[offset + i] = (result[offset + i] as number) + c0;
    power.set(skew.subarray(offset, offset + b * b));
    let sign = 1;
    for (const c of higher) {
      multiplyBySkew(next, power, skew, offset, b, sign);
      for (let i = 0; i < b * b; i++)
        result[offset + i] = (result[offset + i] as number) + c * (next[i] as number);
      [power, next] = [next, power];
      sign = -sign;
    }
  }
  return result;
}

/** target = P · S where it is known to be symmetric (sign 1) or skew (−1): its upper triangle, mirrored. */
function multiplyBySkew(
  target: Float64Array,
  power: Float64Array,
  skew: Float64Array,
  offset: number,
  b: number,
  sign: number,
): void {
  for (let i = 0; i < b; i++) {
    const row = i * b;
    let j = i;
    // Four sums at a time stay in registers.
    for (; j + 3 < b; j += 4) {
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      for (let k = 0, at = offset + j; k < b; k++, at += b) {
        const factor = power[row + k] as number;
        s0 += factor * (skew[at] as number);
        s1 += factor * (skew[at + 1] as number);
        s2 += factor * (skew[at + 2] as number);
        s3 += factor * (skew[at + 3] as number);
      }
      target[row + j] = s0;
      target[row + j + 1] = s1;
      target[row + j + 2] = s2;
      target[row + j + 3] = s3;
    }
    for (; j < b; j++) {
      let sum = 0;
      for (let k = 0; k < b; k++) sum += (power[row + k] as number) * (skew[offset + k * b + j] as number);
      target[row + j] = sum;
    }
    for (let t = i + 1; t < b; t++) target[t * b + i] = sign * (target[row + t] as number);
  }
}
