/** How a checkpoint's module names find the base's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchModules } from '#dist/adapters/match-modules.js';
import { nearestNames } from '#dist/adapters/nearest-names.js';
import { refusal } from './support.js';

const match = (names: string[], base: string[], map?: [string, string][]) =>
  Object.fromEntries(matchModules(names, base, map && new Map(map)));

test('exact names win over any prefix', () => {
  assert.deepEqual(match(['layer.0.query'], ['layer.0.query', 'decoder.layer.0.query']), {
    'layer.0.query': 'layer.0.query',
  });
});

test('a graph that lacks a prefix of the names, the same for all', () => {
  assert.deepEqual(
    match(['model.encoder.layers.0.q', 'model.encoder.layers.1.q'], ['layers.0.q', 'layers.1.q']),
    {
      'model.encoder.layers.0.q': 'layers.0.q',
      'model.encoder.layers.1.q': 'layers.1.q',
    },
  );
});

test('a graph that has one more prefix', () => {
  assert.deepEqual(match(['layers.0.q', 'head'], ['wrapped.layers.0.q', 'wrapped.head']), {
    'layers.0.q': 'wrapped.layers.0.q',
    head: 'wrapped.head',
  });
});

test('the longest common suffix decides between prefixes to drop', () => {
  assert.deepEqual(match(['a.b.layer.q'], ['b.layer.q', 'layer.q']), { 'a.b.layer.q': 'b.layer.q' });
});

test('a prefix that fits one name only does not count', () => {
  assert.throws(
    () => match(['encoder.layers.0.q', 'encoder.layers.1.q'], ['layers.0.q', 'decoder.layers.1.q']),
    refusal('ADAPTER_MODULE_UNKNOWN', '"encoder.layers.1.q"', 'decoder.layers.1.q'),
  );
});

test('part of a name is no suffix', () => {
  assert.throws(() => match(['query'], ['my_query']), refusal('ADAPTER_MODULE_UNKNOWN'));
});

test('another part of the model is not taken for the one that is missing', () => {
  assert.throws(
    () => match(['encoder.layers.0.q'], ['decoder.layers.0.q']),
    refusal('ADAPTER_MODULE_UNKNOWN', 'Nearest: "decoder.layers.0.q"'),
  );
});

test('two prefixes that fit are ambiguous, and both are listed', () => {
  assert.throws(
    () => match(['layers.0.q'], ['encoder.layers.0.q', 'decoder.layers.0.q']),
    refusal('ADAPTER_MODULE_AMBIGUOUS', '"encoder.layers.0.q"', '"decoder.layers.0.q"'),
  );
});

test('a further name resolves an ambiguity', () => {
  assert.deepEqual(match(['l.0.q', 'l.1.q'], ['enc.l.0.q', 'dec.l.0.q', 'dec.l.1.q']), {
    'l.0.q': 'dec.l.0.q',
    'l.1.q': 'dec.l.1.q',
  });
});

test('the explicit map comes first, and must name modules of the base', () => {
  assert.deepEqual(match(['odd', 'layer.q'], ['x.y', 'layer.q'], [['odd', 'x.y']]), {
    odd: 'x.y',
    'layer.q': 'layer.q',
  });
  assert.throws(
    () => match(['odd'], ['x.y'], [['odd', 'x.z']]),
    refusal('ADAPTER_MODULE_UNKNOWN', '"odd"', '"x.z"'),
  );
});

test('two names never become the same module', () => {
  assert.throws(
    () => match(['odd', 'layer.q'], ['layer.q'], [['odd', 'layer.q']]),
    refusal('ADAPTER_MODULE_AMBIGUOUS', '"odd"', '"layer.q"'),
  );
});

test('nearest names by edit distance, nearest first, none that are far', () => {
  const names = ['kitten', 'sitting', 'mitten', 'zebra'];
  assert.deepEqual(nearestNames('kitten', names), ['kitten', 'mitten']);
  assert.deepEqual(nearestNames('bitten', names, { count: 1 }), ['kitten']);
  assert.deepEqual(nearestNames('acme-billing', ['acme-biling', 'other'], { maxDistance: 3 }), [
    'acme-biling',
  ]);
  assert.deepEqual(nearestNames('', ['ab', 'abc']), ['ab']);
});
