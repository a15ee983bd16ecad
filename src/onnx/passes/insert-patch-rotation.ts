/**
 * Puts x ← x R in front of a convolution over patches: x [B, C, H, W] → patches [B, P, C·kh·kw] → rotated → back to an
 * image, which the frozen kernel then sees.
 *
 * Requires: a Conv whose stride is its kernel, without padding or dilation: its patches do not overlap, so each can be
 * rotated by itself, in the order c·kh·kw of the flattened kernel. Ensures: the edit's input is the rotated image.
 * Rules: 1. rows and columns beyond the last whole patch, which the convolution never reads, are cut off.
 */
import { intAttributeOf, intsAttribute, makeNode } from '../graph.js';
import { shapeOf } from './edit.js';
import type { SiteEdit } from './edit.js';
import { rotate } from './rotate.js';

/** [B, C, h, kh, w, kw] → [B, h, w, C, kh, kw], and back. */
const TO_PATCHES = intsAttribute('perm', [0, 2, 4, 1, 3, 5]);
const TO_IMAGE = intsAttribute('perm', [0, 3, 1, 4, 2, 5]);

export function insertPatchRotation(edit: SiteEdit): void {
  const { site, plan, before, input: x } = edit;
  const [, channels = 1, kh = 1, kw = 1] = site.kernel ?? [];
  const prefix = `papillon:${site.value}:patches`;
  const add = (step: string, opType: string, inputs: readonly string[]): string => {
    const name = `${prefix}:${step}`;
    before.push(makeNode(opType, inputs, [name], { name }));
    return name;
  };
  const slice = (step: string, value: string, from: number, to: number): string =>
    add(step, 'Slice', [value, plan.int64([from]), plan.int64([to])]);
  const shape = (step: string, parts: readonly string[]): string => {
    const name = `${prefix}:${step}`;
    before.push(makeNode('Concat', parts, [name], { name, attributes: [intAttributeOf('axis', 0)] }));
    return name;
  };
  const transpose = (step: string, value: string, perm: typeof TO_IMAGE): string => {
    const name = `${prefix}:${step}`;
    before.push(makeNode('Transpose', [value], [name], { name, attributes: [perm] }));
    return name;
  };

  const imageShape = shapeOf(edit, x, before);
  const batch = slice('batch', imageShape, 0, 1);
  const kernel = plan.int64([kh, kw]);
  const grid = add('grid', 'Div', [slice('size', imageShape, 2, 4), kernel]);
  const [h, w] = [slice('rows', grid, 0, 1), slice('columns', grid, 1, 2)];
  const whole = add('whole', 'Mul', [grid, kernel]);
  const cropped = add('cropped', 'Slice', [x, plan.int64([0, 0]), whole, plan.int64([2, 3])]);
  const c = plan.int64([channels]);
  const apart = shape('apart-shape', [batch, c, h, plan.int64([kh]), w, plan.int64([kw])]);
  const patches = transpose('laid-out', add('apart', 'Reshape', [cropped, apart]), TO_PATCHES);
  const flatShape = shape('flat-shape', [batch, plan.int64([-1]), plan.int64([site.inFeatures])]);
  const flat = add('flat', 'Reshape', [patches, flatShape]);

  const rotated = rotate(edit, flat, site.inFeatures, 'rotation', before);
  const patchShape = shape('patch-shape', [batch, h, w, plan.int64([channels, kh, kw])]);
  const together = transpose('together', add('rotated', 'Reshape', [rotated, patchShape]), TO_IMAGE);
  edit.input = add('image', 'Reshape', [together, shape('image-shape', [batch, c, whole])]);
}
