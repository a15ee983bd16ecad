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
 * A row vector x becomes x R. Summed in float64.
 *
 * @param q Q, [m, D, b, b] row-major float64.
 * @returns [D·b/e, e, e] row-major with e = b·2^(m−1).
 * @throws RangeError where no such butterfly exists or the lengths do not fit.
 */
export function blockProduct(q: Float64Array, m: number, D: number, b: number): Float32Array {
  if (!isButterfly(m, D, b)) throw new RangeError(`no butterfly of ${m} factors over ${D} blocks of ${b}`);
  if (q.length !== m * D * b * b) {
    throw new RangeError(`expected ${m} × ${D} blocks of ${b} × ${b}, got ${q.length} numbers`);
  }
  if (m === 1) return new Float32Array(q);
  const e = productBlockSize(b, m);
  const product = new Float32Array(D * b * e);
  // Between the levels, where there are more than two: blocks of e with zeros where nothing was written yet.
  let current = new Float64Array(m > 2 ? e * e : 0);
  let next = new Float64Array(m > 2 ? e * e : 0);
  for (let block = 0; block < (D * b) / e; block++) {
    const firstStored = (block * e) / b;
    for (let level = 1; level < m; level++) {
      const factor = (level * D + firstStored) * b * b;
      const target = level === m - 1 ? product : next;
      const to = level === m - 1 ? block * e * e : 0;
      // Level 0 permutes nothing: its blocks are read as they are stored.
      if (level === 1) applyLevel(target, to, q, firstStored * b * b, b, q, factor, level, b, e);
      else applyLevel(target, to, current, 0, e, q, factor, level, b, e);
      [current, next] = [next, current];
    }
  }
  return product;
}

/**
 * target = M_level · source for one block of e. Of each chunk c = b·2^level, M_level mixes row B·h + t of its first
 * half (t < h = b/2, B < 2^level) with row B·h + t of its second half, by the chunk's stored block B; rows of `source`
 * are nonzero only within their half. So each target row is two short combinations, of rows of either half.
 *
 * @param stride of the source's rows: b where only their own b columns are stored, else e.
 */
function applyLevel(
  target: Float64Array | Float32Array,
  to: number,
  source: Float64Array,
  from: number,
  stride: number,
  q: Float64Array,
  factor: number,
  level: number,
  b: number,
  e: number,
): void {
  const h = b / 2;
  const chunk = b * 2 ** level;
  const half = chunk / 2;
  for (let base = 0; base < e; base += chunk) {
    for (let start = 0; start < half; start += h) {
      // Block B = start/h of the chunk: 2^level of them, over `chunk` rows.
      const stored = factor + (base / b + start / h) * b * b;
      const first = from + (base + start) * stride + (stride === e ? base : 0);
      const second = from + (base + half + start) * stride + (stride === e ? base + half : 0);
      for (let r = 0; r < b; r++) {
        const row = to + (base + start + (r < h ? r : half + r - h)) * e + base;
        combineRows(target, row, source, first, stride, q, stored + r * b, h, half);
        combineRows(target, row + half, source, second, stride, q, stored + r * b + h, h, half);
      }
    }
  }
}

/** target[to + j] = Σ_t q[factors + t] · source[from + t·stride + j] for t < h, j < n. */
function combineRows(
  target: Float64Array | Float32Array,
  to: number,
  source: Float64Array,
  from: number,
  stride: number,
  q: Float64Array,
  factors: number,
  h: number,
  n: number,
): void {
  let j = 0;
  // Four sums at a time stay in registers.
  for (; j + 3 < n; j += 4) {
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let t = 0, at = from + j; t < h; t++, at += stride) {
      const factor = q[factors + t] as number;
      s0 += factor * (source[at] as number);
      s1 += factor * (source[at + 1] as number);
      s2 += factor * (source[at + 2] as number);
      s3 += factor * (source[at + 3] as number);
    }
    target[to + j] = s0;
    target[to + j + 1] = s1;
    target[to + j + 2] = s2;
    target[to + j + 3] = s3;
  }
  for (; j < n; j++) {
    let sum = 0;
    for (let t = 0; t < h; t++) sum += (q[factors + t] as number) * (source[from + t * stride + j] as number);
    target[to + j] = sum;
  }
}
