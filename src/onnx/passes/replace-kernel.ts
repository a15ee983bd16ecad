/**
 * Replaces a convolution's kernel by an operand [1, n, c·kh·kw] into which an adapter was merged. Patches overlap, so
 * an input-side rotation would be another function; and a kernel serves the whole batch, so there is one lane.
 *
 * Requires: the site's node is a Conv without groups. Ensures: its second input is the operand as [n, c, kh, kw].
 */
import { makeNode } from '../graph.js';
import { ELEM } from '../model.js';
import { operandInput } from './edit.js';
import type { SiteEdit } from './edit.js';

export function replaceKernel(edit: SiteEdit): void {
  const { site, plan, before, node } = edit;
  const operand = plan.input(operandInput('weight', site.module), ELEM.FLOAT, [
    1,
    site.outFeatures,
    site.inFeatures,
  ]);
  const kernel = `papillon:${site.value}:kernel`;
  before.push(makeNode('Reshape', [operand, plan.int64(site.kernel ?? [])], [kernel], { name: kernel }));
  node.input[1] = kernel;
}
