/** Solves and inverts small dense systems in float64. */

/**
 * Solves A X = B in place, by LU decomposition with partial pivoting. `a` is [n, n], `b` is [n, n], both row-major float64; afterwards `b` holds X and `a`
 * its decomposition. Returns false where a pivot is zero or not finite (A singular or not finite): `b` is then
 * undefined.
 */
export function solveInPlace(a: Float64Array, b: Float64Array, n: number): boolean {
  for (let column = 0; column < n; column++) {
    let pivotRow = column;
    let largest = Math.abs(a[column * n + column] as number);
    for (let row = column + 1; row < n; row++) {
      const candidate = Math.abs(a[row * n + column] as number);
      if (candidate > largest) {
        largest = candidate;
        pivotRow = row;
      }
    }
    if (!(largest > 0 && largest < Infinity)) return false;
    if (pivotRow !== column) {
      swapRows(a, column, pivotRow, n);
      swapRows(b, column, pivotRow, n);
    }
    const pivot = a[column * n + column] as number;
    for (let row = column + 1; row < n; row++) {
      const factor = (a[row * n + column] as number) / pivot;
      if (factor === 0) continue;
      subtractRow(a, row, factor, column, column + 1, n);
      subtractRow(b, row, factor, column, 0, n);
    }
  }
  for (let row = n - 1; row >= 0; row--) {
    for (let below = row + 1; below < n; below++) {
      const factor = a[row * n + below] as number;
      if (factor === 0) continue;
      subtractRow(b, row, factor, below, 0, n);
    }
    const pivot = a[row * n + row] as number;
    for (let k = 0; k < n; k++) b[row * n + k] = (b[row * n + k] as number) / pivot;
  }
  return true;
}

/** row −= factor · other, from column `from` on. */
function subtractRow(
  matrix: Float64Array,
  row: number,
  factor: number,
  other: number,
  from: number,
  n: number,
): void {
  const target = row * n;
  const source = other * n;
  for (let k = from; k < n; k++) {
    matrix[target + k] = (matrix[target + k] as number) - factor * (matrix[source + k] as number);
  }
}

function swapRows(matrix: Float64Array, first: number, second: number, n: number): void {
  for (let k = 0; k < n; k++) {
    const held = matrix[first * n + k] as number;
    matrix[first * n + k] = matrix[second * n + k] as number;
    matrix[second * n + k] = held;
  }
}

/**
 * A ← A⁻¹ in place, by Gauss–Jordan elimination without pivoting: for matrices whose symmetric part is I, where every
 * pivot is at least 1.
 *
 * @param a A is its [n, n] row-major at `offset`.
 */
export function invertInPlace(a: Float64Array, offset: number, n: number): void {
  const end = offset + n * n;
  for (let k = 0; k < n; k++) {
    const pivotRow = offset + k * n;
    const scale = 1 / (a[pivotRow + k] as number);
    a[pivotRow + k] = 1;
    for (let j = pivotRow; j < pivotRow + n; j++) a[j] = (a[j] as number) * scale;
    for (let row = offset; row < end; row += n) {
      if (row === pivotRow) continue;
      const factor = a[row + k] as number;
      a[row + k] = 0;
      // Four at a time: for the usual small blocks the loop itself would cost as much as its work.
      let j = 0;
      for (; j + 3 < n; j += 4) {
        a[row + j] = (a[row + j] as number) - factor * (a[pivotRow + j] as number);
        a[row + j + 1] = (a[row + j + 1] as number) - factor * (a[pivotRow + j + 1] as number);
        a[row + j + 2] = (a[row + j + 2] as number) - factor * (a[pivotRow + j + 2] as number);
        a[row + j + 3] = (a[row + j + 3] as number) - factor * (a[pivotRow + j + 3] as number);
      }
      for (; j < n; j++) a[row + j] = (a[row + j] as number) - factor * (a[pivotRow + j] as number);
    }
  }
}
