/**
 * Puts y ← y ⊙ s behind a product, in front of its bias; s [L, 1, n].
 *
 * Requires: the current value is the product without bias. Ensures: the current value is scaled per lane.
 */
import { ELEM } from '../model.js';
import { appendPerChannel, appendPerLane, operandInput } from './edit.js';
import type { SiteEdit } from './edit.js';

export function insertScale(edit: SiteEdit): void {
  const { site, plan } = edit;
  // A replaced head's width is the batch's.
  const width = edit.inLanes ? 'width' : site.outFeatures;
  const operand = plan.input(operandInput('scale', site.module), ELEM.FLOAT, ['lanes', 1, width]);
  if (site.kind === 'convolution') appendPerChannel(edit, 'scaled', 'Mul', operand);
  else appendPerLane(edit, 'scaled', 'Mul', operand);
}
