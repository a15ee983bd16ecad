/**
 * What the passes share: one site being edited, and the plan's graph around it.
 *
 * A lane is one row of the batch, or the whole batch when all its rows use one adapter. Operands have a leading
 * lane axis L; an activation [B, T, width] or [B·T, width] is seen as [L, −1, width].
 */
import type { NodeProto, TensorProto, ValueInfoProto } from '../gen/onnx_pb.js';
import { intAttributeOf, makeNode, makeValueInfo } from '../graph.js';
import { ELEM, int64Tensor } from '../model.js';
import type { NodeOptions } from '../graph.js';
import type { Site } from '../locate.js';

/** Names of the inputs that a plan adds to the base's graph. */
export const LANES_INPUT = 'papillon:lanes';
export const blocksInput = (width: number): string => `papillon:blocks:${width}`;
export const operandInput = (kind: OperandKind, module: string): string => `papillon:${kind}:${module}`;

/**
 * `outputRotation` acts on a module's result; `shift` is the adapter's bias minus the base's; `bias` replaces the
 * base's altogether, for heads whose width differs.
 */
export const OPERAND_KINDS = ['rotation', 'outputRotation', 'scale', 'shift', 'bias', 'weight'] as const;
export type OperandKind = (typeof OPERAND_KINDS)[number];

/** A site's rank and whether its leading axis is made of the batch's rows, as the probe found it. */
export interface ShapedSite extends Site {
  /** Rank of the value that the site computes (and, linear, of its input). */
  readonly rank: number;
  /** Rows of different adapters can be told apart here. */
  readonly separable: boolean;
  /** Values are float16 here; operands stay float32 and are applied in float32. */
  readonly half: boolean;
}

/**
 * `many`: a lane is a row, operands have a lane axis L. `one`: the whole batch uses one adapter; L is 1, and rotations
 * come without that axis.
 */
export type LaneForm = 'one' | 'many';

/** Collects what a plan adds beside the nodes: inputs, constants, and values computed once. */
export class PlanGraph {
  readonly inputs = new Map<string, ValueInfoProto>();
  readonly constants = new Map<string, TensorProto>();
  /** Nodes that depend on plan inputs only; they come first in the graph. */
  readonly prologue: NodeProto[] = [];
  private readonly made = new Set<string>();

  constructor(readonly form: LaneForm) {}

  input(name: string, elemType: number, dims: readonly (number | string)[]): string {
    if (!this.inputs.has(name)) this.inputs.set(name, makeValueInfo(name, elemType, dims));
    return name;
  }

  int64(values: readonly number[]): string {
    const name = `papillon:const:${values.join(',')}`;
    if (!this.constants.has(name)) this.constants.set(name, int64Tensor(name, [values.length], values));
    return name;
  }

  /** True the first time a value of this name is asked for: then the caller adds the node that makes it. */
  first(name: string): boolean {
    if (this.made.has(name)) return false;
    this.made.add(name);
    return true;
  }

  /** Shape tensor [L, −1, width]. */
  rowsShape(width: number): string {
    const name = `papillon:rows:${width}`;
    if (this.first(name)) {
      const lanes = this.input(LANES_INPUT, ELEM.INT64, [1]);
      this.prologue.push(
        makeNode('Concat', [lanes, this.int64([-1]), this.int64([width])], [name], axis0(name)),
      );
    }
    return name;
  }

  /** Shape tensor [L, −1, d/e, e] (one lane: [−1, d/e, e]) for the width's current block size e. */
  blockedShape(width: number): string {
    const name = `papillon:blocked:${width}`;
    if (this.first(name)) {
      const blocks = this.input(blocksInput(width), ELEM.INT64, [2]);
      const leading = [
        ...(this.form === 'many' ? [this.input(LANES_INPUT, ELEM.INT64, [1])] : []),
        this.int64([-1]),
      ];
      this.prologue.push(makeNode('Concat', [...leading, blocks], [name], axis0(name)));
    }
    return name;
  }
}

function axis0(name: string): NodeOptions {
  return { name, attributes: [intAttributeOf('axis', 0)] };
}

/** One site: the node that computes its value, with nodes to put before and after it. */
export interface SiteEdit {
  readonly site: ShapedSite;
  readonly plan: PlanGraph;
  readonly before: NodeProto[];
  readonly node: NodeProto;
  readonly after: NodeProto[];
  /** The float value that the module reads, as edited so far. */
  input: string;
  /** Name of the last value behind the node so far; renamed to `site.value` when the edit is finished. */
  current: string;
  /** The current value is seen as [L, −1, width], whatever the site's rank. */
  inLanes: boolean;
}

/** The name of a float16 value in float32; other values as they are. */
export function inFloat(edit: SiteEdit, value: string): string {
  if (!edit.site.half) return value;
  const name = `papillon:float:${value}`;
  if (edit.plan.first(name)) edit.before.push(castNode(value, name, ELEM.FLOAT));
  return name;
}

export function castNode(from: string, to: string, elemType: number): NodeProto {
  return makeNode('Cast', [from], [to], { name: to, attributes: [intAttributeOf('to', elemType)] });
}

/** Appends a Cast behind the site's node. */
export function appendCast(edit: SiteEdit, step: string, elemType: number): void {
  const output = `papillon:${edit.site.value}:${step}`;
  edit.after.push(castNode(edit.current, output, elemType));
  edit.current = output;
}

/** The name of Shape(value), computed once however many sites need it. */
export function shapeOf(edit: SiteEdit, value: string, nodes: NodeProto[]): string {
  const name = `papillon:shape:${value}`;
  if (edit.plan.first(name)) nodes.push(makeNode('Shape', [value], [name], { name }));
  return name;
}

/** Appends a node behind the site's and makes its output the current value. */
export function append(edit: SiteEdit, step: string, opType: string, inputs: readonly string[]): void {
  const output = `papillon:${edit.site.value}:${step}`;
  edit.after.push(makeNode(opType, inputs, [output], { name: output }));
  edit.current = output;
}

/**
 * Applies `op` between the current value and an operand [L, 1, n]. A value of rank 3 or in the lanes' view broadcasts
 * as it is; other ranks are viewed as [L, −1, n] and back.
 */
export function appendPerLane(edit: SiteEdit, step: string, opType: string, operand: string): void {
  const { site, plan } = edit;
  if (site.rank === 3 || edit.inLanes) {
    append(edit, step, opType, [edit.current, operand]);
    return;
  }
  const original = edit.current;
  append(edit, `${step}-rows`, 'Reshape', [original, plan.rowsShape(site.outFeatures)]);
  append(edit, step, opType, [edit.current, operand]);
  append(edit, `${step}-back`, 'Reshape', [edit.current, shapeOf(edit, original, edit.after)]);
}

/** Applies `op` between a convolution's result [B, n, H, W] and an operand of n values a lane, or n in all. */
export function appendPerChannel(edit: SiteEdit, step: string, opType: string, operand: string): void {
  const result = edit.current;
  append(edit, `${step}-channels`, 'Reshape', [operand, edit.plan.int64([-1, edit.site.outFeatures, 1, 1])]);
  append(edit, step, opType, [result, edit.current]);
}
