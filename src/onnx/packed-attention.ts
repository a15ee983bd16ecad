/** Recognises attention that an optimiser fused with its projections: nothing can be rotated in front of one of them. */
import type { OnnxModel } from './model.js';

const PACKED: ReadonlySet<string> = new Set([
  'Attention',
  'QAttention',
  'PackedAttention',
  'LongformerAttention',
  'DecoderMaskedSelfAttention',
]);

/** Whether the graph computes query, key and value from one packed weight. */
export function hasPackedAttention({ graph }: OnnxModel): boolean {
  return graph.node.some(({ domain, opType }) => domain === 'com.microsoft' && PACKED.has(opType));
}
