/** Damaged adapter_config.json files, beside weights that are good. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { GOOD, assertSound, contextOf, load } from './adapters.js';
import { damage } from './mutations.js';
import { assertVaried, closed, noOutcomes } from './outcome.js';
import type { Outcomes } from './outcome.js';

const root = temporaryFolder();
mkdirSync(join(root, 'fuzzed'));
const context = contextOf(root);

/** By number, so that a counterexample is short. */
const good = fc.nat(GOOD.length - 1);

function check(outcomes: Outcomes, which: number, config: string | Uint8Array): void {
  const loaded = closed(root, outcomes, () => load(context, config, at(GOOD, which).weights));
  if (loaded) assertSound(loaded);
}

const FIELDS = [
  ...new Set(GOOD.flatMap(({ config }) => Object.keys(config))),
  'unheard_of',
  '__proto__',
  'constructor',
  'prototype',
  'oft_block_size',
  'layers_to_transform',
];

const values = fc.oneof(
  fc.constantFrom<unknown[]>(
    ...[null, true, false, '', 'BOFT', 'OFT', 'LORA', 'boft', 'none', 'all', '0.16.0', '99', 'not-a-version'],
    ...[0, -0, 1, -1, 2, 3, 4, 5, 64, 65, 0.5, 1e-320, 1e308, -1e308, 2 ** 31, 2 ** 53, 1e21],
    ...[[], {}, [null], ['query'], ['other'], [['query']], [1], { query: 1 }],
    Array.from({ length: 20_000 }, (_, i) => `module.${i}`),
    'x'.repeat(100_000),
    '\u0000\ud800\n\u2028',
    { peft_type: 'BOFT', __proto__: null },
  ),
  fc.jsonValue({ maxDepth: 3 }),
);

const changes = fc.array(
  fc.tuple(fc.constantFrom(...FIELDS), fc.oneof({ arbitrary: values, weight: 5 }, fc.constant(undefined))),
  { minLength: 1, maxLength: 4 },
);

/** The configuration with fields set, or left out where the value is undefined. */
function changed(which: number, fields: readonly (readonly [string, unknown])[]): string {
  const config: Record<string, unknown> = { ...at(GOOD, which).config };
  for (const [field, value] of fields)
    Object.defineProperty(config, field, { value, enumerable: true, configurable: true, writable: true });
  return JSON.stringify(config);
}

/** Texts that are no JSON, or more of it than is good. */
const BROKEN: readonly ((text: string) => string | Uint8Array)[] = [
  () => '',
  () => 'null',
  () => '[]',
  () => '"BOFT"',
  () => '0',
  () => '{}',
  () => '{"peft_type":{"toString":"BOFT"}}',
  (text) => `\uFEFF${text}`,
  (text) => Buffer.from(text, 'utf16le'),
  (text) => Buffer.concat([Buffer.from(text), Buffer.of(0xff, 0xfe)]),
  (text) => text.replace('"peft_type"', '"\ud800","peft_type"'),
  (text) => Buffer.concat([Buffer.from(`{"x":"`), Buffer.of(0xc3, 0x28), Buffer.from(`",${text.slice(1)}`)]),
  (text) => `{"peft_type":"IA3",${text.slice(1)}`,
  (text) => `${text.slice(0, -1)},"deep":${'['.repeat(300_000)}${']'.repeat(300_000)}}`,
  (text) => `${text.slice(0, -1)},"target_modules":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
  (text) => `${text.slice(0, -1)},"deep":${'{"a":'.repeat(100_000)}0${'}'.repeat(100_000)}}`,
  (text) => '{"a":'.repeat(200_000) + text,
  (text) => `${text.slice(0, -1)},"many":{${Array.from({ length: 60_000 }, (_, i) => `"k${i}":0`).join()}}}`,
  (text) => `${text.slice(0, -1)},"eps":1e999}`,
  (text) => `${text.slice(0, -1)},"eps":-1e-999}`,
  (text) => `${text.slice(0, -1)},"oft_block_size":${'9'.repeat(400)}}`,
  (text) => `${text}${' '.repeat(2 ** 21)}`,
  (text) => `${text}${text}`,
  (text) => text.replaceAll('"', "'"),
];

describe('damaged adapter_config.json', () => {
  test('fields of other types, sizes and names', () => {
    const outcomes = noOutcomes();
    fc.assert(
      fc.property(good, changes, (which, fields) => {
        check(outcomes, which, changed(which, fields));
      }),
      { numRuns: 2500, seed: 11 },
    );
    assertVaried(outcomes, 5);
    assert.equal(({} as Record<string, unknown>).peft_type, undefined);
  });

  test('bytes at random', () => {
    const outcomes = noOutcomes();
    fc.assert(
      fc.property(good, damage, (which, mutate) => {
        check(outcomes, which, mutate(Buffer.from(JSON.stringify(at(GOOD, which).config))));
      }),
      { numRuns: 1500, seed: 12 },
    );
    assertVaried(outcomes, 3);
  });

  test('texts that are no JSON, no UTF-8, too deep or too long', () => {
    const outcomes = noOutcomes();
    for (const which of GOOD.keys()) {
      for (const rewrite of BROKEN) check(outcomes, which, rewrite(JSON.stringify(at(GOOD, which).config)));
    }
    assertVaried(outcomes, 1);
  });

  test('many targets and many modules at once take no time to speak of', () => {
    const outcomes = noOutcomes();
    const targets = Array.from({ length: 90_000 }, (_, i) => `t${i}`);
    const config = JSON.stringify({ ...at(GOOD, 0).config, target_modules: targets });
    for (let round = 0; round < 5; round++) check(outcomes, 0, config);
    assert.deepEqual([...outcomes.refused], [['ADAPTER_CONFIG_CONFLICT', 5]]);
  });
});
