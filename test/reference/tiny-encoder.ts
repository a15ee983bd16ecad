/** The tiny encoder of test/support in float64, one row at a time, with an adapter's operands. */
import type { ModuleOperands } from '#dist/types.js';
import type { EncoderParameters } from '../support/tiny-encoder.js';
import { gelu, linearSite } from './linear-site.js';

export interface EncoderOutputs {
  /** [classes] */
  readonly logits: Float64Array;
  /** [tokens, width] */
  readonly hidden: Float64Array;
}

export function encoderReference(
  { table, layers, norm }: EncoderParameters,
  ids: readonly number[],
  mask: readonly number[],
  operands: readonly ModuleOperands[],
): EncoderOutputs {
  const own = new Map(operands.map((module) => [module.module, module]));
  const width = norm.gamma.length;
  const tokens = ids.length;
  const layer = (module: string, x: Float64Array): Float64Array => {
    const found = layers.get(module);
    if (!found) throw new Error(`no layer ${module}`);
    return linearSite(x, found, own.get(module));
  };
  const embedded = Float64Array.from(ids.flatMap((id) => [...table.subarray(id * width, (id + 1) * width)]));
  const q = layer('encoder.query', embedded);
  const k = layer('encoder.key', embedded);
  const v = layer('encoder.value', embedded);
  const context = new Float64Array(tokens * width);
  for (let i = 0; i < tokens; i++) {
    const scores = mask.map((kept, j) => {
      if (kept === 0) return -Infinity;
      let sum = 0;
      for (let c = 0; c < width; c++) sum += (q[i * width + c] as number) * (k[j * width + c] as number);
      return sum / Math.sqrt(width);
    });
    const largest = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - largest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let j = 0; j < tokens; j++) {
      const share = (weights[j] as number) / total;
      for (let c = 0; c < width; c++) {
        const at = i * width + c;
        context[at] = (context[at] as number) + share * (v[j * width + c] as number);
      }
    }
  }
  const attended = layer('encoder.output', context);
  const beta = own.get('encoder.norm')?.bias ?? norm.beta;
  const normal = new Float64Array(tokens * width);
  for (let i = 0; i < tokens; i++) {
    const row = Array.from(
      { length: width },
      (_, c) => (embedded[i * width + c] as number) + (attended[i * width + c] as number),
    );
    const mean = row.reduce((sum, value) => sum + value, 0) / width;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width;
    for (let c = 0; c < width; c++) {
      normal[i * width + c] =
        (((row[c] as number) - mean) / Math.sqrt(variance + 1e-5)) * (norm.gamma[c] as number) +
        (beta[c] as number);
    }
  }
  const lowered = layer('encoder.down', layer('encoder.up', normal).map(gelu));
  const hidden = normal.map((value, i) => value + (lowered[i] as number));
  const pooled = layer('pooler', hidden.subarray(0, width)).map(Math.tanh);
  return { logits: layer('classifier', pooled), hidden };
}
