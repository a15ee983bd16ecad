/**
 * Follows modules from the exported graph into ONNX Runtime's optimised one. Optimisers rename nodes and fold
 * weights, but a MatMul or Gemm that survives still computes the value that the export named.
 */
import { GraphIndex } from './graph.js';
import { tensorDims } from './model.js';
import type { OnnxModel } from './model.js';
import type { GraphModule } from './modules.js';

/** A place in the optimised graph where a module's operands enter: the node that computes `value`. */
export interface Site {
  readonly module: string;
  readonly kind: GraphModule['kind'];
  readonly value: string;
  /** The value that the rotation acts on (linear), or the value itself (normalization). */
  readonly input: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** A convolution's kernel shape [n, c, kh, kw], else null. */
  readonly kernel: readonly number[] | null;
}

export interface Located {
  readonly sites: readonly Site[];
  /** Modules that the optimiser swallowed: they cannot be adapted in this graph. */
  readonly lost: readonly string[];
}

function isComputedBy(kind: GraphModule['kind'], opType: string): boolean {
  if (kind === 'linear') return opType === 'MatMul' || opType === 'Gemm';
  return kind === 'normalization' || opType === 'Conv';
}

export function locateSites(optimised: OnnxModel, modules: readonly GraphModule[]): Located {
  const index = new GraphIndex(optimised.graph);
  const sites: Site[] = [];
  const lost: string[] = [];
  for (const module of modules) {
    const found: Site[] = [];
    for (const value of module.values) {
      const node = index.producers.get(value);
      if (!node) continue;
      const input = module.kind === 'normalization' ? value : node.input[0];
      if (!isComputedBy(module.kind, node.opType) || input === undefined) continue;
      const { kind, inFeatures, outFeatures, name } = module;
      const weight = kind === 'convolution' && node.input[1] ? index.constant(node.input[1]) : undefined;
      const kernel = weight ? tensorDims(weight) : null;
      if (kind === 'convolution' && kernel?.length !== 4) continue;
      found.push({ module: name, kind, value, input, inFeatures, outFeatures, kernel });
    }
    // Part of a module's uses would be a different function: all or none.
    if (found.length === module.values.length) sites.push(...found);
    else lost.push(module.name);
  }
  return { sites, lost };
}
