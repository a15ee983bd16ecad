/**
 * The nodes of one rotation, for values of any rank whose last axis is w and whose other axes begin with the batch's
 * rows.
 *
 * Many lanes: x [B, T, w] → [L, T', w/e, e] → [L, w/e, T', e] · R [L, w/e, e, e] → back to x's shape. One lane: the
 * product reads x [N, w/e, e] as it lies, by strides, so that only its result is transposed.
 */
import type { NodeProto } from '../gen/onnx_pb.js';
import { intAttributeOf, intsAttribute, makeNode } from '../graph.js';
import { ELEM } from '../model.js';
import { operandInput, shapeOf } from './edit.js';
import type { OperandKind, SiteEdit } from './edit.js';

/** [L, T', w/e, e] ↔ [L, w/e, T', e]. */
const SWAP_BLOCKS = intsAttribute('perm', [0, 2, 1, 3]);
/** [w/e, N, e] → [N, w/e, e]. */
const BLOCKS_LAST = intsAttribute('perm', [1, 0, 2]);

type RotationKind = Extract<OperandKind, 'rotation' | 'outputRotation'>;

/** Pushes the nodes that make x R and returns its name. Rotations of the same x share what comes before the product. */
export function rotate(
  edit: SiteEdit,
  x: string,
  width: number,
  kind: RotationKind,
  nodes: NodeProto[],
): string {
  const name = `papillon:${edit.site.value}:${kind}`;
  const product = `${name}:blocked`;
  const isSingle = edit.plan.form === 'one';
  nodes.push(
    ...(isSingle ? oneLane(edit, x, width, kind, product) : manyLanes(edit, x, width, kind, product)),
  );
  const view = `${name}:view`;
  const attributes = [isSingle ? BLOCKS_LAST : SWAP_BLOCKS];
  nodes.push(makeNode('Transpose', [product], [view], { name: view, attributes }));
  nodes.push(makeNode('Reshape', [view, shapeOf(edit, x, nodes)], [name], { name }));
  return name;
}

/** x seen in blocks, once however many rotations read it. */
function viewInBlocks(edit: SiteEdit, x: string, width: number, nodes: NodeProto[]): string {
  const view = `papillon:blocked-view:${x}`;
  if (edit.plan.first(view)) {
    nodes.push(makeNode('Reshape', [x, edit.plan.blockedShape(width)], [view], { name: view }));
  }
  return view;
}

function manyLanes(
  edit: SiteEdit,
  x: string,
  width: number,
  kind: RotationKind,
  product: string,
): NodeProto[] {
  const { site, plan } = edit;
  const nodes: NodeProto[] = [];
  const view = viewInBlocks(edit, x, width, nodes);
  const blocked = `papillon:blocked-input:${x}`;
  if (plan.first(blocked)) {
    nodes.push(makeNode('Transpose', [view], [blocked], { name: blocked, attributes: [SWAP_BLOCKS] }));
  }
  const operand = plan.input(operandInput(kind, site.module), ELEM.FLOAT, ['lanes', 'blocks', 'e', 'e']);
  nodes.push(makeNode('MatMul', [blocked, operand], [product], { name: product }));
  return nodes;
}

function oneLane(edit: SiteEdit, x: string, width: number, kind: RotationKind, product: string): NodeProto[] {
  const { site, plan } = edit;
  const nodes: NodeProto[] = [];
  const view = viewInBlocks(edit, x, width, nodes);
  const operand = plan.input(operandInput(kind, site.module), ELEM.FLOAT, ['blocks', 'e', 'e']);
  nodes.push(
    makeNode('FusedMatMul', [view, operand], [product], {
      name: product,
      domain: 'com.microsoft',
      attributes: [intAttributeOf('transBatchA', 1)],
    }),
  );
  return nodes;
}
