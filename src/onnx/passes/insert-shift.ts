/**
 * Puts y ← y + (b − b₀) behind a module, b [L, 1, n] being the adapter's bias and b₀ the base's. Adding the
 * difference leaves the frozen bias wherever the optimiser has put it (BiasGelu, SkipLayerNormalization, Gemm).
 *
 * Requires: the current value is the product after the scale, or a normalization's result. Ensures: the module's
 * value carries the adapter's bias in place of the base's, to within float32 rounding of b − b₀.
 */
import { ELEM } from '../model.js';
import { appendPerChannel, appendPerLane, operandInput } from './edit.js';
import type { SiteEdit } from './edit.js';

export function insertShift(edit: SiteEdit): void {
  const { site, plan } = edit;
  const operand = plan.input(operandInput('shift', site.module), ELEM.FLOAT, ['lanes', 1, site.outFeatures]);
  if (site.kind === 'convolution') appendPerChannel(edit, 'shifted', 'Add', operand);
  else appendPerLane(edit, 'shifted', 'Add', operand);
}
