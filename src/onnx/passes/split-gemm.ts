/**
 * Splits Y = α·A'·B' + β·C into the product and the bias, so that a scale can act between them.
 *
 * Requires: the site's node is a Gemm. Ensures: it has no C; the current value is followed by + β·C when the
 * returned function is called, after the other passes have put their nodes behind the product.
 * Rules: 1. β = 1: Add(product, C). 2. other β: Add(product, Mul(C, β)).
 */
import { floatAttribute, makeNode } from '../graph.js';
import { floatTensor } from '../model.js';
import { append } from './edit.js';
import type { SiteEdit } from './edit.js';

export function splitGemm(edit: SiteEdit): () => void {
  const bias = edit.node.input[2];
  if (edit.node.opType !== 'Gemm' || bias === undefined || bias === '') return () => undefined;
  edit.node.input.length = 2;
  const beta = floatAttribute(edit.node, 'beta', 1);
  return () => {
    let addend = bias;
    if (beta !== 1) {
      const factor = `papillon:beta:${edit.site.value}`;
      addend = `${factor}:bias`;
      edit.plan.constants.set(factor, floatTensor(factor, [], Float32Array.of(beta)));
      edit.after.push(makeNode('Mul', [bias, factor], [addend], { name: addend }));
    }
    append(edit, 'bias', 'Add', [edit.current, addend]);
  };
}
