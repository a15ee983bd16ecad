/** Reading an element that a test knows to be there. */
import assert from 'node:assert/strict';

/** The element at `index`, the first by default; fails the test where there is none. */
export function at<T>(items: readonly T[], index = 0): T {
  const item = items[index];
  assert.ok(item !== undefined, `no element ${index} among ${items.length}`);
  return item;
}
