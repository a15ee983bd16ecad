/**
 * Makes the site's node read the edited input; the last pass of a site.
 *
 * Requires: the site's node is one of `PRODUCT_OPERATORS` and still reads what the base computes. Ensures: it reads
 * the edit's input.
 * Rules: 1. float products: the first input. 2. MatMulIntegerToFloat: its quantiser is shared with other layers, so
 * the edited value gets one of its own (first input, its scale and its zero point).
 */
import { makeNode } from '../graph.js';
import type { SiteEdit } from './edit.js';

export function feedInput(edit: SiteEdit): void {
  const { site, before, node } = edit;
  if (edit.input === site.input) return;
  if (node.opType !== 'MatMulIntegerToFloat') {
    node.input[0] = edit.input;
    return;
  }
  const name = `papillon:${site.value}:quantised`;
  const [scale, zeroPoint] = [`${name}:scale`, `${name}:zero-point`];
  before.push(makeNode('DynamicQuantizeLinear', [edit.input], [name, scale, zeroPoint], { name }));
  node.input[0] = name;
  node.input[2] = scale;
  node.input[4] = zeroPoint;
}
