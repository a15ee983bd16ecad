/** Merging a rotation and a scale into a weight. */

/**
 * W' = diag(s) · W · Rᵀ, the weight with which y = x W'ᵀ equals ((x R) Wᵀ) ⊙ s. Sums in float64.
 *
 * @param weight W [out, d] row-major; a convolution's is viewed as [out, in·k·k].
 * @param blocks R's blocks [d/e, e, e], or null for the identity.
 * @param scale s [out], or null for ones.
 * @returns W' [out, d], float32.
 */
export function mergeWeight(
  weight: Float32Array,
  out: number,
  blocks: { readonly size: number; readonly data: Float32Array } | null,
  scale: Float32Array | null,
): Float32Array {
  const d = weight.length / out;
  const merged = new Float32Array(weight.length);
  for (let o = 0; o < out; o++) {
    const row = o * d;
    const s = scale === null ? 1 : (scale[o] as number);
    for (let i = 0; i < d; i++) {
      merged[row + i] = s * (blocks === null ? (weight[row + i] as number) : rotated(weight, row, i, blocks));
    }
  }
  return merged;
}

/** (W Rᵀ)[o, i] = Σ_j W[o, j] R[i, j], over the block that holds i. */
function rotated(
  weight: Float32Array,
  row: number,
  i: number,
  { size: e, data }: { readonly size: number; readonly data: Float32Array },
): number {
  const first = i - (i % e);
  let sum = 0;
  for (let j = 0; j < e; j++) sum += (weight[row + first + j] as number) * (data[i * e + j] as number);
  return sum;
}

/**
 * W' = Oᵀ · W, the weight with which y = x W'ᵀ equals (x Wᵀ) O. Sums in float64.
 *
 * @param weight W [out, d] row-major.
 * @param e O's block size.
 * @param blocks O's blocks [out/e, e, e].
 * @returns W' [out, d], float32.
 */
export function mergeOutputRotation(
  weight: Float32Array,
  out: number,
  e: number,
  blocks: Float32Array,
): Float32Array {
  const d = weight.length / out;
  const merged = new Float32Array(weight.length);
  for (let o = 0; o < out; o++) {
    const first = o - (o % e);
    for (let i = 0; i < d; i++) {
      let sum = 0;
      for (let p = 0; p < e; p++) {
        sum += (weight[(first + p) * d + i] as number) * (blocks[(first + p) * e + (o % e)] as number);
      }
      merged[o * d + i] = sum;
    }
  }
  return merged;
}
