/** Compiles a plan: the optimised base graph with the operands of some modules entering at their sites. */
import type { NodeProto } from './gen/onnx_pb.js';
import { copyModel } from './model.js';
import type { OnnxModel } from './model.js';
import { PlanGraph } from './passes/edit.js';
import type { OperandKind, ShapedSite, SiteEdit } from './passes/edit.js';
import { insertRotation } from './passes/insert-rotation.js';
import { insertScale } from './passes/insert-scale.js';
import { insertShift } from './passes/insert-shift.js';
import { replaceKernel } from './passes/replace-kernel.js';
import { replaceWeight } from './passes/replace-weight.js';
import { splitGemm } from './passes/split-gemm.js';

export type { OperandKind, ShapedSite } from './passes/edit.js';
export { LANES_INPUT, blocksInput, operandInput } from './passes/edit.js';

/** Module name → the operands that enter at its sites. */
export type PlanModules = ReadonlyMap<string, ReadonlySet<OperandKind>>;

/** y = ((x R) Wᵀ) ⊙ s + (b − b₀) + b₀, each part only where the plan has its operand. */
function editSite(
  site: ShapedSite,
  node: NodeProto,
  kinds: ReadonlySet<OperandKind>,
  plan: PlanGraph,
): NodeProto[] {
  const edit: SiteEdit = { site, plan, before: [], node, after: [], current: site.value };
  if (kinds.has('rotation')) insertRotation(edit);
  const isConvolution = site.kind === 'convolution';
  if (isConvolution && kinds.has('weight')) replaceKernel(edit);
  if (kinds.has('scale') || kinds.has('shift') || (kinds.has('weight') && !isConvolution)) {
    edit.current = `papillon:${site.value}:product`;
    const slot = node.output.indexOf(site.value);
    node.output[slot] = edit.current;
    const addBias = splitGemm(edit);
    if (kinds.has('weight') && !isConvolution) replaceWeight(edit);
    if (kinds.has('scale')) insertScale(edit);
    if (kinds.has('shift')) insertShift(edit);
    addBias();
    const last = edit.after.at(-1);
    if (last) last.output[0] = site.value;
  }
  return [...edit.before, node, ...edit.after];
}

/**
 * A copy of the optimised base whose graph has, beside the base's inputs: `papillon:lanes` [1] (L: the batch's
 * rows, or 1 when they share one adapter), `papillon:blocks:<d>` [2] (d/e and e of every rotation of width d) and
 * `papillon:<kind>:<module>` for each operand: rotation [L, d/e, e, e], scale and shift [L, 1, n], weight
 * [L, n, d]. Initializers, prepacked entries included, are untouched.
 */
export function compilePlan(base: OnnxModel, sites: readonly ShapedSite[], modules: PlanModules): OnnxModel {
  const model = copyModel(base);
  const byValue = new Map(sites.map((site) => [site.value, site]));
  const plan = new PlanGraph();
  const nodes: NodeProto[] = [];
  for (const node of model.graph.node) {
    const site = node.output.map((name) => byValue.get(name)).find((found) => found !== undefined);
    const kinds = site ? modules.get(site.module) : undefined;
    if (site && kinds && kinds.size > 0) nodes.push(...editSite(site, node, kinds, plan));
    else nodes.push(node);
  }
  model.graph.node = [...plan.prologue, ...nodes];
  model.graph.input.push(...plan.inputs.values());
  model.graph.initializer.push(...plan.constants.values());
  return model;
}
