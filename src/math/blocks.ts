/** What can be done with a block-diagonal matrix that is kept as its diagonal blocks. */

/**
 * max |BᵀB − I| over all blocks B of [count, e, e] and all elements, summed in float64. NaN counts as Infinity.
 */
export function orthogonalityResidual(blocks: Float32Array | Float64Array, count: number, e: number): number {
  let worst = 0;
  const row = new Float64Array(e);
  for (let block = 0; block < count; block++) {
    const offset = block * e * e;
    for (let i = 0; i < e; i++) {
      // Row i of BᵀB, from the diagonal on: the product is symmetric.
      row.fill(0, i);
      for (let k = 0; k < e; k++) {
        const factor = blocks[offset + k * e + i] as number;
        const source = offset + k * e;
        for (let j = i; j < e; j++) row[j] = (row[j] as number) + factor * (blocks[source + j] as number);
      }
      row[i] = (row[i] as number) - 1;
      for (let j = i; j < e; j++) {
        const error = Math.abs(row[j] as number);
        if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error;
      }
    }
  }
  return worst;
}

/**
 * The same block-diagonal matrix in larger blocks: [count, e, e] → [count·e/E, E, E], zeros between.
 *
 * @throws RangeError unless e divides E and the width count·e is a multiple of E.
 */
export function embedBlocks(blocks: Float32Array, count: number, e: number, E: number): Float32Array {
  if (E % e !== 0 || (count * e) % E !== 0) {
    throw new RangeError(`${count} blocks of ${e} cannot be embedded in blocks of ${E}`);
  }
  if (E === e) return blocks.slice();
  const embedded = new Float32Array(count * e * E);
  for (let row = 0; row < count * e; row++) {
    const start = row - (row % e);
    embedded.set(blocks.subarray(row * e, (row + 1) * e), row * E + (start % E));
  }
  return embedded;
}

/**
 * y = x R for every row: y[r, k·e + j] = Σ_i x[r, k·e + i] · R[k, i, j], summed in float64.
 *
 * @param x [rows, count·e] row-major.
 * @param blocks R, [count, e, e].
 * @returns [rows, count·e].
 * @throws RangeError where the lengths do not fit.
 */
export function rotateRows(
  x: Float32Array,
  rows: number,
  blocks: Float32Array,
  count: number,
  e: number,
): Float32Array {
  const width = count * e;
  if (x.length !== rows * width || blocks.length !== width * e) {
    throw new RangeError(`expected ${rows} rows of ${width} and ${count} blocks of ${e} × ${e}`);
  }
  const y = new Float32Array(x.length);
  const sums = new Float64Array(e);
  for (let row = 0; row < rows; row++) {
    for (let start = 0; start < width; start += e) {
      sums.fill(0);
      for (let i = 0; i < e; i++) {
        const factor = x[row * width + start + i] as number;
        const from = (start + i) * e;
        for (let j = 0; j < e; j++) sums[j] = (sums[j] as number) + factor * (blocks[from + j] as number);
      }
      y.set(sums, row * width + start);
    }
  }
  return y;
}
