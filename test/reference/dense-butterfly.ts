/**
 * The slow reference of the rotation: full d × d matrices in float64, with permutation matrices and block-diagonals
 * written out and every product done by the definition. Shares no code with src/math.
 */
export type Matrix = Float64Array;

export function identity(n: number): Matrix {
  const matrix = new Float64Array(n * n);
  for (let i = 0; i < n; i++) matrix[i * n + i] = 1;
  return matrix;
}

export function multiply(a: Matrix, b: Matrix, n: number): Matrix {
  const product = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += (a[i * n + k] as number) * (b[k * n + j] as number);
      product[i * n + j] = sum;
    }
  }
  return product;
}

export function transpose(a: Matrix, n: number): Matrix {
  return a.map((_, index) => a[(index % n) * n + Math.floor(index / n)] as number);
}

/** A⁻¹ by Gauss–Jordan elimination, the largest element of each column as pivot. */
export function inverse(a: Matrix, n: number): Matrix {
  const rows = Array.from({ length: n }, (_, i) =>
    Array.from({ length: 2 * n }, (_, j) => (j < n ? (a[i * n + j] as number) : j - n === i ? 1 : 0)),
  );
  const row = (r: number) => rows[r] as number[];
  const element = (r: number, c: number) => row(r)[c] as number;
  for (let c = 0; c < n; c++) {
    let best = c;
    for (let r = c; r < n; r++) if (Math.abs(element(r, c)) > Math.abs(element(best, c))) best = r;
    [rows[c], rows[best]] = [row(best), row(c)];
    const pivot = element(c, c);
    rows[c] = row(c).map((value) => value / pivot);
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const factor = element(r, c);
      rows[r] = row(r).map((value, j) => value - factor * element(c, j));
    }
  }
  return Float64Array.from(rows.flatMap((all) => all.slice(n)));
}

/** (I − S)(I + S)⁻¹ of one b × b block A, S = strength · (A − Aᵀ)/2. */
export function denseCayley(block: ArrayLike<number>, b: number, strength = 1): Matrix {
  const s = Float64Array.from({ length: b * b }, (_, index) => {
    const i = Math.floor(index / b);
    const j = index % b;
    return (strength * ((block[i * b + j] as number) - (block[j * b + i] as number))) / 2;
  });
  const one = identity(b);
  const minus = one.map((value, index) => value - (s[index] as number));
  const plus = one.map((value, index) => value + (s[index] as number));
  return multiply(minus, inverse(plus, b), b);
}

/** The n × n matrix with the given b × b blocks on its diagonal. */
export function blockDiagonal(blocks: readonly ArrayLike<number>[], b: number): Matrix {
  const n = blocks.length * b;
  const matrix = new Float64Array(n * n);
  blocks.forEach((block, k) => {
    for (let i = 0; i < b; i++) {
      for (let j = 0; j < b; j++) matrix[(k * b + i) * n + k * b + j] = block[i * b + j] as number;
    }
  });
  return matrix;
}

/** P_i as a 0/1 matrix: (P v)[a] = v[p[a]], p written from its definition over the whole width n. */
export function permutationMatrix(level: number, n: number, b: number): Matrix {
  const matrix = new Float64Array(n * n);
  const chunk = b * 2 ** level;
  for (let a = 0; a < n; a++) {
    let source = a;
    if (level > 0) {
      const k = Math.floor(a / chunk);
      const j = Math.floor((a % chunk) / (b / 2));
      const sigma = j < 2 ** level ? 2 * j : 2 * (j - 2 ** level) + 1;
      source = k * chunk + (sigma * b) / 2 + (a % (b / 2));
    }
    matrix[a * n + source] = 1;
  }
  return matrix;
}

/** R = M_{m−1} ··· M_0, M_i = P_i · blockdiag(Cayley(A_i)) · P_iᵀ, for A [m, D, b, b]. */
export function denseRotation(a: ArrayLike<number>, m: number, D: number, b: number, strength = 1): Matrix {
  const n = D * b;
  let rotation = identity(n);
  for (let level = 0; level < m; level++) {
    const blocks = Array.from({ length: D }, (_, k) => {
      const offset = (level * D + k) * b * b;
      return denseCayley(Array.prototype.slice.call(a, offset, offset + b * b) as number[], b, strength);
    });
    const p = permutationMatrix(level, n, b);
    const factor = multiply(multiply(p, blockDiagonal(blocks, b), n), transpose(p, n), n);
    rotation = multiply(factor, rotation, n);
  }
  return rotation;
}

/** The diagonal blocks [n/e, e, e] of an n × n matrix, and the largest element outside them. */
export function diagonalBlocks(matrix: Matrix, n: number, e: number): { blocks: Matrix; outside: number } {
  const blocks = new Float64Array(n * e);
  let outside = 0;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const value = matrix[i * n + j] as number;
      if (Math.floor(i / e) === Math.floor(j / e)) blocks[i * e + (j % e)] = value;
      else outside = Math.max(outside, Math.abs(value));
    }
  }
  return { blocks, outside };
}
