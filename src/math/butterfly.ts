/** Block-butterfly permutations, and the product of a stack of butterfly factors as dense blocks. */

/** e = b·2^(m−1): the product of m butterfly factors of block size b is block-diagonal in blocks of e. */
export function productBlockSize(b: number, m: number): number {
  return b * 2 ** (m - 1);
}

/**
 * Whether m butterfly factors of D blocks of b exist: D is a multiple of 2^(m−1), and b is even where m > 1 (the
 * permutation moves half blocks).
 */
export function isButterfly(m: number, D: number, b: number): boolean {
  return m >= 1 && D >= 1 && b >= 1 && (m === 1 || b % 2 === 0) && D % 2 ** (m - 1) === 0;
}

/**
 * p_i for one chunk of c = b·2^i: p[j·h + t] = σ(j)·h + t, with h = b/2, σ(j) = 2j for j < 2^i and
 * 2(j − 2^i) + 1 beyond. Chunk k of the full permutation is k·c + p. P_i is defined by (P_i v)[a] = v[p[a]].
 *
 * @param level i ≥ 0; level 0 is the identity, for odd b too.
 * @returns [b·2^i] indices.
 */
export function butterflyPermutation(level: number, b: number): Int32Array {
  const p = new Int32Array(b * 2 ** level);
  if (level === 0) return p.map((_, index) => index);
  const half = b / 2;
  const middle = 2 ** level;
  for (let j = 0; j < 2 * middle; j++) {
    const source = j < middle ? 2 * j : 2 * (j - middle) + 1;
    for (let t = 0; t < half; t++) p[j * half + t] = source * half + t;
  }
  return p;
}

/**
 * The block product R = M_{m−1} ··· M_1 M_0 with M_i = P_i · blockdiag(Q_i) · P_iᵀ, as its diagonal blocks.
 * A row vector x becomes x R.
 *
 * @param q Q, [m, D, b, b] row-major float64.
 * @returns [D·b/e, e, e] row-major float64 with e = b·2^(m−1).
 * @throws RangeError where no such butterfly exists or the lengths do not fit.
 */
export function blockProduct(q: Float64Array, m: number, D: number, b: number): Float64Array {
  if (!isButterfly(m, D, b)) throw new RangeError(`no butterfly of ${m} factors over ${D} blocks of ${b}`);
  if (q.length !== m * D * b * b) {
    throw new RangeError(`expected ${m} × ${D} blocks of ${b} × ${b}, got ${q.length} numbers`);
  }
  if (m === 1) return q.slice();
  const e = productBlockSize(b, m);
  const blocks = (D * b) / e;
  const perBlock = e / b;
  const product = new Float64Array(blocks * e * e);
  const permutations = Array.from({ length: m }, (_, level) => withInverse(butterflyPermutation(level, b)));
  let current = new Float64Array(e * e);
  let next = new Float64Array(e * e);
  for (let block = 0; block < blocks; block++) {
    current.fill(0);
    placeFirstFactor(current, q, block * perBlock * b * b, e, b);
    for (let level = 1; level < m; level++) {
      next.fill(0);
      multiplyFactor(
        next,
        current,
        q,
        (level * D + block * perBlock) * b * b,
        permutations[level] as Permutation,
        e,
        b,
      );
      [current, next] = [next, current];
    }
    product.set(current, block * e * e);
  }
  return product;
}

/** target = blockdiag of the e/b blocks at `offset` (level 0 permutes nothing). */
function placeFirstFactor(target: Float64Array, q: Float64Array, offset: number, e: number, b: number): void {
  for (let row = 0; row < e; row++) {
    const start = row - (row % b);
    for (let t = 0; t < b; t++) target[row * e + start + t] = q[offset + row * b + t] as number;
  }
}

interface Permutation {
  readonly p: Int32Array;
  readonly inverse: Int32Array;
}

function withInverse(p: Int32Array): Permutation {
  const inverse = new Int32Array(p.length);
  for (let index = 0; index < p.length; index++) inverse[p[index] as number] = index;
  return { p, inverse };
}

/**
 * target = M_level · current, where M[a, c] = blockdiag(Q)[p[a], p[c]]. Rows of `current` are nonzero only inside
 * the chunk of the level before, so only that part is added.
 */
function multiplyFactor(
  target: Float64Array,
  current: Float64Array,
  q: Float64Array,
  offset: number,
  { p, inverse }: Permutation,
  e: number,
  b: number,
): void {
  const chunk = p.length;
  const filled = chunk / 2;
  for (let row = 0; row < e; row++) {
    const base = row - (row % chunk);
    const permuted = p[row - base] as number;
    const blockStart = permuted - (permuted % b);
    for (let t = 0; t < b; t++) {
      const factor = q[offset + (base + permuted) * b + t] as number;
      const source = base + (inverse[blockStart + t] as number);
      const from = source - (source % filled);
      const out = row * e + from;
      const into = source * e + from;
      for (let k = 0; k < filled; k++) {
        target[out + k] = (target[out + k] as number) + factor * (current[into + k] as number);
      }
    }
  }
}
