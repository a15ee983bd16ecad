/**
 * Puts x ← x R in front of a product.
 *
 * Requires: the site's node is one of `PRODUCT_OPERATORS`. Ensures: the edit's input is x R; the node's weight and
 * other readers of x are untouched. Sites that read the same x share its blocked transposition.
 * Rules: 1. the features are x's last axis. 2. Gemm or FusedGemm with transA = 1: x is transposed first and transA becomes 0.
 * 3. float16: x is rotated in float32 and rounded again.
 */
import { intAttribute, intsAttribute, makeNode } from '../graph.js';
import { ELEM } from '../model.js';
import { castNode, inFloat } from './edit.js';
import type { SiteEdit } from './edit.js';
import { rotate } from './rotate.js';

export function insertRotation(edit: SiteEdit): void {
  const { site, before } = edit;
  rowMajorInput(edit);
  const x = inFloat(edit, edit.input);
  const name = rotate(edit, x, site.inFeatures, 'rotation', before);
  edit.input = name;
  if (site.half) {
    edit.input = `${name}:half`;
    before.push(castNode(name, edit.input, ELEM.FLOAT16));
  }
}

/** Puts the features last in the edit's input. */
export function rowMajorInput(edit: SiteEdit): void {
  const { node, plan, before } = edit;
  const isTransposed = node.opType.endsWith('Gemm') && intAttribute(node, 'transA', 0) === 1;
  if (!isTransposed) return;
  const name = `papillon:row-major:${edit.input}`;
  if (plan.first(name)) {
    const attributes = [intsAttribute('perm', [1, 0])];
    before.push(makeNode('Transpose', [edit.input], [name], { name, attributes }));
  }
  node.attribute = node.attribute.filter((attribute) => attribute.name !== 'transA');
  edit.input = name;
}
