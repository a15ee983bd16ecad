import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BoundedLabel, OTHER, createAdapterChooser } from '#dist/metrics/labels.js';

describe('BoundedLabel', () => {
  it('lets the first values through, always, and folds the rest', () => {
    const label = new BoundedLabel(2);
    assert.deepEqual(
      ['a', 'b', 'c', 'a', 'd', 'b'].map((value) => label.value(value)),
      ['a', 'b', OTHER, 'a', OTHER, 'b'],
    );
  });
});

describe('the choice of adapters to count by name', () => {
  it('by names: those and no others', () => {
    const chooser = createAdapterChooser({ names: ['a'] });
    assert.deepEqual(chooser.choose('a'), { label: 'a', dropped: null });
    assert.deepEqual(chooser.choose('b'), { label: OTHER, dropped: null });
  });

  it('by number: a newcomer takes the place of the least busy once twice as busy', () => {
    const chooser = createAdapterChooser({ top: 2 });
    for (const id of ['a', 'a', 'a', 'b']) chooser.choose(id);
    assert.deepEqual(chooser.choose('c'), { label: OTHER, dropped: null });
    assert.deepEqual(chooser.choose('c'), { label: 'c', dropped: 'b' });
    assert.deepEqual(chooser.choose('b'), { label: OTHER, dropped: null });
    assert.deepEqual(chooser.choose('a'), { label: 'a', dropped: null });
  });

  it('by number: never more series than that at a time, whatever the traffic', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 4 }),
        fc.array(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'), { maxLength: 300 }),
        (top, traffic) => {
          const chooser = createAdapterChooser({ top });
          const series = new Set<string>();
          for (const id of traffic) {
            const { label, dropped } = chooser.choose(id);
            if (dropped !== null) assert.ok(series.delete(dropped), 'dropped a series that did not exist');
            if (label === OTHER) assert.ok(!series.has(id), 'a listed adapter was folded');
            else series.add(label);
            assert.ok(series.size <= top);
          }
        },
      ),
    );
  });

  it('by number: goes on choosing when it has seen more adapters than it remembers', () => {
    const chooser = createAdapterChooser({ top: 1 });
    for (let i = 0; i < 10; i++) chooser.choose('first');
    for (let i = 0; i < 60_000; i++) chooser.choose(`once-${i}`);
    assert.equal(chooser.choose('first').label, 'first');
    for (let i = 0; i < 30; i++) chooser.choose('busy');
    assert.equal(chooser.choose('busy').label, 'busy');
  });
});
