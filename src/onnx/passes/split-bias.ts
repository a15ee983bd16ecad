/**
 * Takes the bias out of an operator that adds it inside (Gemm's β·C, the bias of quantised products), so that a scale
 * can act between product and bias.
 *
 * Requires: the site's node is one of `PRODUCT_OPERATORS`. Ensures: it adds no bias; the current value is followed by
 * + bias when the returned function is called, after other passes have put their nodes behind the product.
 * Rules: 1. no bias inside: nothing happens. 2. β = 1: Add(product, bias). 3. other β: Add(product, Mul(bias, β)).
 */
import { floatAttribute, makeNode } from '../graph.js';
import { floatTensor } from '../model.js';
import { PRODUCT_OPERATORS } from '../product-operators.js';
import { append } from './edit.js';
import type { SiteEdit } from './edit.js';

export function splitBias(edit: SiteEdit): () => void {
  const { node } = edit;
  const at = PRODUCT_OPERATORS[node.opType]?.biasInput ?? null;
  const bias = at === null ? undefined : node.input[at];
  if (at === null || bias === undefined || bias === '') return () => undefined;
  node.input[at] = '';
  while (node.input.at(-1) === '') node.input.pop();
  const beta = node.opType === 'Gemm' ? floatAttribute(node, 'beta', 1) : 1;
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
