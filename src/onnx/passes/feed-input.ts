/**
 * Makes the site's node read the edited input; the last pass of a site.
 *
 * Requires: the site's node is one of `PRODUCT_OPERATORS` and still reads what the base computes. Ensures: it reads
 * the edit's input.
 * Rules: 1. float products: the first input. 2. MatMulIntegerToFloat: its quantiser is shared with other layers, so
 * the edited value gets one of its own (first input, its scale and its zero point). 3. a static quantiser between
 * input and product: likewise, with the same scale and zero point.
 */
import { makeNode } from '../graph.js';
import type { SiteEdit } from './edit.js';

export function feedInput(edit: SiteEdit): void {
  const { site, before, node } = edit;
  if (edit.input === site.input) return;
  const name = `papillon:${site.value}:quantised`;
  if (site.quantiser) {
    const dequantised = `${name}:float`;
    before.push(makeNode('QuantizeLinear', [edit.input, ...site.quantiser], [name], { name }));
    before.push(
      makeNode('DequantizeLinear', [name, ...site.quantiser], [dequantised], { name: dequantised }),
    );
    node.input[0] = dequantised;
    return;
  }
  if (node.opType !== 'MatMulIntegerToFloat') {
    node.input[0] = edit.input;
    return;
  }
  const [scale, zeroPoint] = [`${name}:scale`, `${name}:zero-point`];
  before.push(makeNode('DynamicQuantizeLinear', [edit.input], [name, scale, zeroPoint], { name }));
  node.input[0] = name;
  node.input[2] = scale;
  node.input[4] = zeroPoint;
}
