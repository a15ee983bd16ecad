/**
 * Puts y ← y + b behind a head whose frozen bias was taken out, b [L, 1, n'].
 *
 * Requires: the current value is the head's product after rotation and scale. Ensures: it carries the lane's bias; n'
 * may differ from the base's where the weight was replaced too.
 */
import { ELEM } from '../model.js';
import { appendPerLane, operandInput } from './edit.js';
import type { SiteEdit } from './edit.js';

export function insertBias(edit: SiteEdit): void {
  const { site, plan } = edit;
  const operand = plan.input(operandInput('bias', site.module), ELEM.FLOAT, ['lanes', 1, 'width']);
  appendPerLane(edit, 'biased', 'Add', operand);
}
