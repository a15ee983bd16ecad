/**
 * Proves loaded operands numerically: a vector through the checkpoint's own factors, by their definition and in
 * float64, must come out as it does from the blocks that are served. Shares no arithmetic with the loading itself:
 * values are read one by one, permutations are applied where loading multiplies them out, systems are solved where it
 * inverts.
 */
import { PapillonError } from '../errors.js';
import { butterflyPermutation, float16ToNumber } from '../math/index.js';
import type { ModuleOperands } from '../types.js';
import type { ModulePlan } from './checkpoint-plan.js';
import type { RotationForm, RotationPlan } from './rotation-plan.js';
import type { TensorEntry } from './safetensors-header.js';

/** Largest deviation that is served, relative to the vector's largest element. Float32 alone makes some 1e-7. */
const TOLERANCE = 1e-4;
/** Blocks of a rotation that get a part of the vector, spread over the width. */
const MAX_BLOCKS = 16;

export interface LoadedModule {
  readonly plan: ModulePlan;
  readonly operands: ModuleOperands;
}

/**
 * Checks rotation and scale of one module of each distinct shape.
 *
 * @param data the weights file's data.
 * @param strength α at which the operands were computed.
 * @throws PapillonError ADAPTER_SELF_CHECK_FAILED naming the tensor
 */
export function selfCheck(modules: readonly LoadedModule[], data: Uint8Array, strength: number): void {
  const seen = new Set<string>();
  for (const { plan, operands } of modules) {
    const { base, rotation, scale } = plan;
    const shape = JSON.stringify([
      base.kind,
      base.inFeatures,
      base.outFeatures,
      rotation?.form,
      dtypes(plan),
    ]);
    if (seen.has(shape)) continue;
    seen.add(shape);
    if (rotation !== null) checkRotation(rotation, operands, data, strength);
    if (scale !== null) checkScale(scale, operands, data, strength);
  }
}

function dtypes({ rotation, scale }: ModulePlan): readonly (string | undefined)[] {
  return [rotation?.tensor.dtype, scale?.dtype];
}

function checkRotation(
  plan: RotationPlan,
  operands: ModuleOperands,
  data: Uint8Array,
  strength: number,
): void {
  const { tensor, form, width, blockSize: e } = plan;
  const x = probe(width, e);
  const want = rotateByFactors(form, valueReader(data, tensor), strength, x);
  const served = plan.side === 'input' ? operands.rotation : operands.outputRotation;
  const got = new Float64Array(width);
  x.forEach((value, i) => {
    if (value === 0) return;
    const start = i - (i % e);
    for (let j = 0; j < e; j++) {
      const r = served === undefined ? (start + j === i ? 1 : 0) : (served.blocks[i * e + j] as number);
      got[start + j] = (got[start + j] as number) + value * r;
    }
  });
  compare(tensor, got, want, x);
}

function checkScale(tensor: TensorEntry, operands: ModuleOperands, data: Uint8Array, strength: number): void {
  const read = valueReader(data, tensor);
  const want = Float64Array.from({
    length: operands.scale?.length ?? tensor.shape.reduce((size, n) => size * n, 1),
  });
  want.forEach((_, i) => (want[i] = strength * read(i) + (1 - strength)));
  const got = operands.scale ?? new Float32Array(want.length).fill(1);
  compare(tensor, got, want, want);
}

/** Throws unless all of `got` is `want` within the tolerance, relative to the largest of `reference`. */
function compare(
  tensor: TensorEntry,
  got: ArrayLike<number>,
  want: Float64Array,
  reference: Float64Array,
): void {
  const largest = reference.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  want.forEach((value, i) => {
    const deviation = Math.abs(value - (got[i] as number));
    if (deviation <= TOLERANCE * Math.max(largest, Math.abs(value))) return;
    throw new PapillonError(
      'ADAPTER_SELF_CHECK_FAILED',
      `Tensor "${tensor.name}" was computed wrongly: it misses its float64 reference by ` +
        `${deviation.toExponential(1)} at element ${i}.`,
    );
  });
}

/** A fixed vector in [−1, 1], zero outside of some of the blocks of e. */
function probe(width: number, e: number): Float64Array {
  const blocks = width / e;
  const chosen = Math.min(blocks, MAX_BLOCKS);
  const x = new Float64Array(width);
  let state = 0x2545f491;
  for (let c = 0; c < chosen; c++) {
    // The first and the last one always.
    const block = chosen === 1 ? 0 : Math.round((c * (blocks - 1)) / (chosen - 1));
    for (let i = block * e; i < (block + 1) * e; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      x[i] = state / 2 ** 31 - 1;
    }
  }
  return x;
}

/** x R: through level m−1 first, each as x P · blockdiag · Pᵀ. */
function rotateByFactors(
  form: RotationForm,
  read: (index: number) => number,
  strength: number,
  x: Float64Array,
): Float64Array {
  const { m, stored, b } = form;
  const blocks = Math.ceil(x.length / b);
  // What is cropped of the last block gets zeros and is dropped.
  let row = new Float64Array(blocks * b);
  row.set(x);
  for (let level = m - 1; level >= 0; level--) {
    const p = butterflyPermutation(level, b);
    const place = (a: number) => a - (a % p.length) + (p[a % p.length] as number);
    const permuted = new Float64Array(row.length);
    row.forEach((value, a) => (permuted[place(a)] = value));
    for (let k = 0; k < blocks; k++) {
      const part = permuted.subarray(k * b, (k + 1) * b);
      if (part.every((value) => value === 0)) continue;
      const skew = skewBlock(form, read, level * stored + (stored === 1 ? 0 : k), strength);
      part.set(
        form.coefficients === null
          ? rotateExactly(part, skew, b)
          : rotateBySeries(part, skew, b, form.coefficients),
      );
    }
    row = permuted.map((_, a) => permuted[place(a)] as number);
  }
  return row.subarray(0, x.length);
}

/** αS of one stored block, [b, b]. */
function skewBlock(
  { storage, b, radius }: RotationForm,
  read: (index: number) => number,
  block: number,
  strength: number,
): Float64Array {
  const matrix = new Float64Array(b * b);
  for (let i = 0; i < b; i++) {
    for (let j = 0; j < b; j++) {
      if (storage === 'squares') matrix[i * b + j] = read(block * b * b + i * b + j);
      else if (i < j) {
        // Row i of the strict upper triangle begins behind those before it.
        const packed = (block * b * (b - 1)) / 2 + (i * (2 * b - i - 1)) / 2 + (j - i - 1);
        matrix[i * b + j] = read(packed);
        matrix[j * b + i] = -read(packed);
      }
    }
  }
  const norm = Math.sqrt(matrix.reduce((sum, value) => sum + value * value, 0));
  const limit = radius !== null && norm > radius ? radius / norm : 1;
  return matrix.map((value, at) => {
    const mirrored = matrix[(at % b) * b + Math.floor(at / b)] as number;
    return (strength * limit * (value - mirrored)) / 2;
  });
}

/** y = x (I − S)(I + S)⁻¹: solves (I + S)ᵀ yᵀ = (x (I − S))ᵀ, where (I + S)ᵀ = I − S. */
function rotateExactly(x: Float64Array, s: Float64Array, b: number): Float64Array {
  const y = x.slice();
  x.forEach((value, i) => {
    for (let j = 0; j < b; j++) y[j] = (y[j] as number) - value * (s[i * b + j] as number);
  });
  const rows = Array.from({ length: b }, (_, i) =>
    Float64Array.from({ length: b }, (__, j) => (i === j ? 1 : 0) - (s[i * b + j] as number)),
  );
  return solve(rows, y);
}

/** y = Σ_k c_k x S^k. */
function rotateBySeries(
  x: Float64Array,
  s: Float64Array,
  b: number,
  coefficients: readonly number[],
): Float64Array {
  const y = new Float64Array(b);
  let power = x.slice();
  for (const c of coefficients) {
    power.forEach((value, j) => (y[j] = (y[j] as number) + c * value));
    const next = new Float64Array(b);
    power.forEach((value, i) => {
      for (let j = 0; j < b; j++) next[j] = (next[j] as number) + value * (s[i * b + j] as number);
    });
    power = next;
  }
  return y;
}

/** The solution of A v = y by elimination with the largest pivots. Changes both. */
function solve(a: Float64Array[], y: Float64Array): Float64Array {
  const n = y.length;
  const at = (i: number) => a[i] as Float64Array;
  for (let c = 0; c < n; c++) {
    let pivot = c;
    for (let i = c + 1; i < n; i++) {
      if (Math.abs(at(i)[c] as number) > Math.abs(at(pivot)[c] as number)) pivot = i;
    }
    [a[c], a[pivot]] = [at(pivot), at(c)];
    [y[c], y[pivot]] = [y[pivot] as number, y[c] as number];
    const own = at(c);
    for (let i = c + 1; i < n; i++) {
      const row = at(i);
      const factor = (row[c] as number) / (own[c] as number);
      for (let j = c; j < n; j++) row[j] = (row[j] as number) - factor * (own[j] as number);
      y[i] = (y[i] as number) - factor * (y[c] as number);
    }
  }
  for (let i = n - 1; i >= 0; i--) {
    const row = at(i);
    let rest = y[i] as number;
    for (let j = i + 1; j < n; j++) rest -= (row[j] as number) * (y[j] as number);
    y[i] = rest / (row[i] as number);
  }
  return y;
}

/** Reads a tensor's values by their place, in whatever float type it has. */
function valueReader(data: Uint8Array, { dtype, begin, end }: TensorEntry): (index: number) => number {
  const view = new DataView(data.buffer, data.byteOffset + begin, end - begin);
  const bits = new DataView(new ArrayBuffer(4));
  switch (dtype) {
    case 'F64':
      return (index) => view.getFloat64(8 * index, true);
    case 'F16':
      return (index) => float16ToNumber(view.getUint16(2 * index, true));
    case 'BF16':
      return (index) => {
        bits.setUint16(0, view.getUint16(2 * index, true));
        return bits.getFloat32(0);
      };
    default:
      return (index) => view.getFloat32(4 * index, true);
  }
}
