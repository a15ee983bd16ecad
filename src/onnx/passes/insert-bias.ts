/**
 * Puts y ← y + b behind a head whose frozen bias was taken out, b [L, 1, n'].
 *
 * Requires: the current value is the head's product [L, T', n'] or of rank 2 with one row a lane. Ensures: the current
 * value carries the lane's bias; n' may differ from the base's.
 */
import { ELEM } from '../model.js';
import { append, operandInput } from './edit.js';
import type { SiteEdit } from './edit.js';

export function insertBias(edit: SiteEdit): void {
  const { site, plan } = edit;
  const operand = plan.input(operandInput('bias', site.module), ELEM.FLOAT, ['lanes', 1, 'width']);
  append(edit, 'biased', 'Add', [edit.current, operand]);
}
