/**
 * Puts x ← x R in front of a product: x [B, T, d] → [L, T', d/e, e] → [L, d/e, T', e] · R [L, d/e, e, e] → back.
 *
 * Requires: the site's node is a MatMul or Gemm with x as its first input. Ensures: the node reads x R; its weight
 * and its other readers of x are untouched. Sites that read the same x share its blocked transposition.
 * Rules: 1. MatMul, and Gemm with transA = 0: the features are x's last axis. 2. Gemm with transA = 1: x is
 * transposed first and transA becomes 0.
 */
import { intAttribute, intsAttribute, makeNode } from '../graph.js';
import { ELEM } from '../model.js';
import { operandInput, shapeOf } from './edit.js';
import type { SiteEdit } from './edit.js';

const SWAP_BLOCKS = intsAttribute('perm', [0, 2, 1, 3]);

export function insertRotation(edit: SiteEdit): void {
  const { site, plan, before, node } = edit;
  const x = rowMajorInput(edit);
  const width = site.inFeatures;
  const blocked = `papillon:blocked-input:${x}`;
  if (plan.first(blocked)) {
    const viewed = `${blocked}:view`;
    before.push(makeNode('Reshape', [x, plan.blockedShape(width)], [viewed], { name: viewed }));
    before.push(makeNode('Transpose', [viewed], [blocked], { name: blocked, attributes: [SWAP_BLOCKS] }));
  }
  const operand = plan.input(operandInput('rotation', site.module), ELEM.FLOAT, [
    'lanes',
    'blocks',
    'e',
    'e',
  ]);
  const name = `papillon:${site.value}:rotated`;
  before.push(
    makeNode('MatMul', [blocked, operand], [`${name}:blocked`], { name: `${name}:blocked` }),
    makeNode('Transpose', [`${name}:blocked`], [`${name}:view`], {
      name: `${name}:view`,
      attributes: [SWAP_BLOCKS],
    }),
    makeNode('Reshape', [`${name}:view`, shapeOf(edit, x, before)], [name], { name }),
  );
  node.input[0] = name;
}

/** The node's first input with features last. */
function rowMajorInput(edit: SiteEdit): string {
  const { node, plan, before } = edit;
  const x = node.input[0] ?? '';
  const transA = node.opType === 'Gemm' && intAttribute(node, 'transA', 0) === 1;
  if (!transA) return x;
  const name = `papillon:row-major:${x}`;
  if (plan.first(name)) {
    before.push(makeNode('Transpose', [x], [name], { name, attributes: [intsAttribute('perm', [1, 0])] }));
  }
  node.attribute = node.attribute.filter((attribute) => attribute.name !== 'transA');
  return name;
}
