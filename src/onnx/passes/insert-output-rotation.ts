/**
 * Puts y ← y O behind a product, in front of scale and bias (OFT up to PEFT 0.13), or behind an embedding's look-up.
 *
 * Requires: the current value is the product without bias, or the rows looked up, in float32. Ensures: the current
 * value is rotated per lane.
 */
import type { SiteEdit } from './edit.js';
import { rotate } from './rotate.js';

export function insertOutputRotation(edit: SiteEdit): void {
  edit.current = rotate(edit, edit.current, edit.site.outFeatures, 'outputRotation', edit.after);
}
