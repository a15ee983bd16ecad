/**
 * Takes the activation out of a FusedGemm, which an optimiser has put inside, so that operands can act before it.
 *
 * Requires: the site's node is a FusedGemm. Ensures: it is a Gemm; the current value is followed by the activation
 * when the returned function is called, after the other passes have put their nodes behind the product.
 * Rules: 1. attribute `activation` names the operator; 2. `activation_alpha`, `_beta`, `_gamma` become its attributes.
 */
import { makeNode } from '../graph.js';
import type { SiteEdit } from './edit.js';

const PARAMETER = /^activation_(alpha|beta|gamma)$/;

export function splitActivation(edit: SiteEdit): () => void {
  const { node, site } = edit;
  if (node.opType !== 'FusedGemm') return () => undefined;
  const activation = node.attribute.find(({ name }) => name === 'activation');
  const attributes = node.attribute
    .filter(({ name }) => PARAMETER.test(name))
    .map((attribute) => ({ ...attribute, name: attribute.name.replace(PARAMETER, '$1') }));
  node.opType = 'Gemm';
  node.domain = '';
  node.attribute = node.attribute.filter(({ name }) => !name.startsWith('activation'));
  return () => {
    const output = `papillon:${site.value}:activated`;
    const opType = new TextDecoder().decode(activation?.s);
    edit.after.push(makeNode(opType, [edit.current], [output], { name: output, attributes }));
    edit.current = output;
  };
}
