import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IndexedHeap } from '#dist/scheduler/indexed-heap.js';

const operations = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('push' as const), value: fc.nat(50) }),
    fc.record({ kind: fc.constant('delete' as const), value: fc.nat(50) }),
    fc.record({ kind: fc.constant('pop' as const), value: fc.constant(0) }),
  ),
  { maxLength: 200 },
);

test('behaves as a sorted set under any pushes, pops and deletions', () => {
  fc.assert(
    fc.property(operations, (steps) => {
      const heap = new IndexedHeap<number>((a, b) => a < b);
      const reference = new Set<number>();
      for (const { kind, value } of steps) {
        const least = reference.size === 0 ? undefined : Math.min(...reference);
        if (kind === 'push') {
          heap.push(value);
          reference.add(value);
        } else if (kind === 'delete') {
          assert.equal(heap.delete(value), reference.delete(value));
        } else {
          assert.equal(heap.pop(), least);
          if (least !== undefined) reference.delete(least);
        }
        assert.equal(heap.size, reference.size);
        assert.equal(heap.has(value), reference.has(value));
        assert.equal(heap.peek(), reference.size === 0 ? undefined : Math.min(...reference));
      }
    }),
  );
});
