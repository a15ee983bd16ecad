/** Compiles a plan: the optimised base graph with the operands of some modules entering at their sites. */
import type { NodeProto } from './gen/onnx_pb.js';
import { ELEM, copyModel } from './model.js';
import type { OnnxModel } from './model.js';
import { PlanGraph, appendCast, appendPerChannel } from './passes/edit.js';
import type { LaneForm, OperandKind, ShapedSite, SiteEdit } from './passes/edit.js';
import { feedInput } from './passes/feed-input.js';
import { insertBias } from './passes/insert-bias.js';
import { insertOutputRotation } from './passes/insert-output-rotation.js';
import { insertPatchRotation } from './passes/insert-patch-rotation.js';
import { insertRotation } from './passes/insert-rotation.js';
import { insertScale } from './passes/insert-scale.js';
import { insertShift } from './passes/insert-shift.js';
import { replaceKernel } from './passes/replace-kernel.js';
import { replaceWeight } from './passes/replace-weight.js';
import { splitActivation } from './passes/split-activation.js';
import { splitBias } from './passes/split-bias.js';

export type { LaneForm, OperandKind, ShapedSite } from './passes/edit.js';
export { LANES_INPUT, OPERAND_KINDS, blocksInput, operandInput } from './passes/edit.js';

/** Module name → the operands that enter at its sites. */
export type PlanModules = ReadonlyMap<string, ReadonlySet<OperandKind>>;

/** Where the frozen bias is an Add of its own and the lane's replaces it, the Add goes and its value is made here. */
function resultOf(site: ShapedSite, kinds: ReadonlySet<OperandKind>): string {
  return kinds.has('bias') ? (site.biased ?? site.value) : site.value;
}

/** y = (((x R) Wᵀ) O) ⊙ s + (b − b₀) + b₀, each part only where the plan has its operand. */
function editSite(
  site: ShapedSite,
  node: NodeProto,
  kinds: ReadonlySet<OperandKind>,
  plan: PlanGraph,
): NodeProto[] {
  const { input, value: current } = site;
  const edit: SiteEdit = { site, plan, before: [], node, after: [], input, current, inLanes: false };
  if (site.kind === 'convolution') editConvolution(edit, kinds);
  else {
    if (kinds.has('rotation')) insertRotation(edit);
    if (RESULT_KINDS.some((kind) => kinds.has(kind))) editResult(edit, kinds);
    if (kinds.has('rotation') && !kinds.has('weight')) feedInput(edit);
  }
  const last = edit.after.at(-1);
  if (last) last.output[0] = resultOf(site, kinds);
  return [...edit.before, node, ...edit.after];
}

/** Operands that act behind the node. */
const RESULT_KINDS: readonly OperandKind[] = ['weight', 'outputRotation', 'scale', 'shift', 'bias'];

/** Puts what follows between the node's result and the readers of its value. */
function detachResult(edit: SiteEdit): void {
  const { node, site } = edit;
  edit.current = `papillon:${site.value}:product`;
  node.output[node.output.indexOf(site.value)] = edit.current;
}

function editConvolution(edit: SiteEdit, kinds: ReadonlySet<OperandKind>): void {
  const { node } = edit;
  if (kinds.has('weight')) replaceKernel(edit);
  if (kinds.has('rotation')) {
    insertPatchRotation(edit);
    node.input[0] = edit.input;
  }
  if (!kinds.has('scale') && !kinds.has('shift')) return;
  detachResult(edit);
  const bias = node.input.at(2) ?? '';
  if (kinds.has('scale')) {
    node.input.length = 2;
    insertScale(edit);
  }
  if (kinds.has('shift')) insertShift(edit);
  if (kinds.has('scale') && bias !== '') appendPerChannel(edit, 'bias', 'Add', bias);
}

function editResult(edit: SiteEdit, kinds: ReadonlySet<OperandKind>): void {
  detachResult(edit);
  const activate = splitActivation(edit);
  const addBias = splitBias(edit);
  const leaveLanes = kinds.has('weight') ? replaceWeight(edit) : undefined;
  if (!leaveLanes && edit.site.half) appendCast(edit, 'float', ELEM.FLOAT);
  if (kinds.has('outputRotation')) insertOutputRotation(edit);
  if (kinds.has('scale')) insertScale(edit);
  if (kinds.has('shift')) insertShift(edit);
  if (kinds.has('bias')) insertBias(edit);
  leaveLanes?.();
  if (edit.site.half) appendCast(edit, 'half', ELEM.FLOAT16);
  if (!kinds.has('bias')) addBias();
  activate();
}

/**
 * A copy of the optimised base whose graph has, beside the base's inputs: `papillon:lanes` [1] (L: the batch's
 * rows, or 1 when they share one adapter), `papillon:blocks:<d>` [2] (d/e and e of every rotation of width d) and
 * `papillon:<kind>:<module>` for each operand: rotations [L, w/e, e, e], scale and shift [L, 1, n], weight
 * [L, n', d] and bias [L, 1, n']. In the form of one lane L is 1 and rotations are [w/e, e, e]. Initializers, prepacked entries included, are untouched.
 */
export function compilePlan(
  base: OnnxModel,
  sites: readonly ShapedSite[],
  modules: PlanModules,
  form: LaneForm = 'many',
): OnnxModel {
  const model = copyModel(base);
  const byValue = new Map(sites.map((site) => [site.value, site]));
  const plan = new PlanGraph(form);
  const nodes: NodeProto[] = [];
  const replacedBiases = new Set(
    sites.filter((site) => modules.get(site.module)?.has('bias')).map((site) => site.biased),
  );
  for (const node of model.graph.node) {
    if (node.output.some((name) => replacedBiases.has(name))) continue;
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
