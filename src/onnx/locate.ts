/**
 * Follows modules from the exported graph into ONNX Runtime's optimised one. Optimisers rename nodes and fold
 * weights, but a MatMul or Gemm that survives still computes the value that the export named.
 */
import { GraphIndex } from './graph.js';
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
}

export interface Located {
  readonly sites: readonly Site[];
  /** Modules that the optimiser swallowed: they cannot be adapted in this graph. */
  readonly lost: readonly string[];
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
      const isProduct = node.opType === 'MatMul' || node.opType === 'Gemm';
      const input = module.kind === 'linear' ? node.input[0] : value;
      if ((module.kind === 'linear' && !isProduct) || input === undefined) continue;
      const { kind, inFeatures, outFeatures, name } = module;
      found.push({ module: name, kind, value, input, inFeatures, outFeatures });
    }
    // Part of a module's uses would be a different function: all or none.
    if (found.length === module.values.length) sites.push(...found);
    else lost.push(module.name);
  }
  return { sites, lost };
}
