/**
 * The nodes of one rotation: x [B, T, w] → [L, T', w/e, e] → [L, w/e, T', e] · R [L, w/e, e, e] → back to x's shape.
 * Values of any rank whose last axis is w and whose other axes begin with the batch's rows.
 */
import type { NodeProto } from '../gen/onnx_pb.js';
import { intsAttribute, makeNode } from '../graph.js';
import { ELEM } from '../model.js';
import { operandInput, shapeOf } from './edit.js';
import type { OperandKind, SiteEdit } from './edit.js';

const SWAP_BLOCKS = intsAttribute('perm', [0, 2, 1, 3]);

/** Pushes the nodes that make x R and returns its name. Rotations of the same x share its blocked transposition. */
export function rotate(
  edit: SiteEdit,
  x: string,
  width: number,
  kind: Extract<OperandKind, 'rotation' | 'outputRotation'>,
  nodes: NodeProto[],
): string {
  const { site, plan } = edit;
  const blocked = `papillon:blocked-input:${x}`;
  if (plan.first(blocked)) {
    const viewed = `${blocked}:view`;
    nodes.push(makeNode('Reshape', [x, plan.blockedShape(width)], [viewed], { name: viewed }));
    nodes.push(makeNode('Transpose', [viewed], [blocked], { name: blocked, attributes: [SWAP_BLOCKS] }));
  }
  const operand = plan.input(operandInput(kind, site.module), ELEM.FLOAT, ['lanes', 'blocks', 'e', 'e']);
  const name = `papillon:${site.value}:${kind}`;
  nodes.push(
    makeNode('MatMul', [blocked, operand], [`${name}:blocked`], { name: `${name}:blocked` }),
    makeNode('Transpose', [`${name}:blocked`], [`${name}:view`], {
      name: `${name}:view`,
      attributes: [SWAP_BLOCKS],
    }),
    makeNode('Reshape', [`${name}:view`, shapeOf(edit, x, nodes)], [name], { name }),
  );
  return name;
}
