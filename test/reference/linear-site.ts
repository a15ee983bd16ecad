/**
 * The slow reference of a site: y = α (((x R) Wᵀ) O) ⊙ s + b in float64, with R and O written out as full matrices and
 * every sum done by the definition. Shares no code with src.
 */
export interface ReferenceLayer {
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** [outFeatures, inFeatures]. */
  readonly weight: ArrayLike<number>;
  readonly bias: ArrayLike<number> | null;
  readonly alpha?: number;
  /** Factor of the frozen bias. */
  readonly beta?: number;
}

export interface ReferenceOperands {
  readonly rotation?: { readonly blockSize: number; readonly blocks: ArrayLike<number> };
  /** O, on the result. */
  readonly outputRotation?: { readonly blockSize: number; readonly blocks: ArrayLike<number> };
  readonly scale?: ArrayLike<number>;
  readonly bias?: ArrayLike<number>;
  readonly weight?: ArrayLike<number>;
}

/** R [d, d] of blocks [d/e, e, e]. */
export function denseRotation(rotation: ReferenceOperands['rotation'], d: number): Float64Array {
  const dense = new Float64Array(d * d);
  for (let i = 0; i < d; i++) {
    for (let j = 0; j < d; j++) {
      if (!rotation) dense[i * d + j] = i === j ? 1 : 0;
      else {
        const e = rotation.blockSize;
        const sameBlock = Math.floor(i / e) === Math.floor(j / e);
        dense[i * d + j] = sameBlock ? (rotation.blocks[i * e + (j % e)] as number) : 0;
      }
    }
  }
  return dense;
}

/** y [rows, n] of x [rows, d]. */
export function linearSite(
  x: ArrayLike<number>,
  layer: ReferenceLayer,
  operands: ReferenceOperands = {},
): Float64Array {
  const { inFeatures: d, outFeatures: n, alpha = 1, beta = 1 } = layer;
  const rows = x.length / d;
  const rotation = denseRotation(operands.rotation, d);
  const outputRotation = denseRotation(operands.outputRotation, n);
  const weight = operands.weight ?? layer.weight;
  const y = new Float64Array(rows * n);
  for (let r = 0; r < rows; r++) {
    const rotated = new Float64Array(d);
    for (let j = 0; j < d; j++) {
      let sum = 0;
      for (let i = 0; i < d; i++) sum += (x[r * d + i] as number) * (rotation[i * d + j] as number);
      rotated[j] = sum;
    }
    const product = new Float64Array(n);
    for (let o = 0; o < n; o++) {
      let sum = 0;
      for (let j = 0; j < d; j++) sum += (rotated[j] as number) * (weight[o * d + j] as number);
      product[o] = sum;
    }
    for (let o = 0; o < n; o++) {
      let turned = 0;
      for (let i = 0; i < n; i++) turned += (product[i] as number) * (outputRotation[i * n + o] as number);
      const frozen = layer.bias ? beta * (layer.bias[o] as number) : 0;
      y[r * n + o] = alpha * turned * (operands.scale?.[o] ?? 1) + (operands.bias?.[o] ?? frozen);
    }
  }
  return y;
}

/** erf by its Maclaurin series (converges for every argument; these tests stay below 6). */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let k = 1; k < 200; k++) {
    term *= (-x * x) / k;
    sum += term / (2 * k + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

export function gelu(x: number): number {
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

/** Largest |a − b| relative to the largest |b| (at least 1). */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let scale = 1;
  let worst = 0;
  for (let i = 0; i < b.length; i++) {
    scale = Math.max(scale, Math.abs(b[i] as number));
    const difference = Math.abs((a[i] as number) - (b[i] as number));
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Infinity : difference;
  }
  return worst / scale;
}
