/** How requests write compositions and strengths. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  MAX_PARTS,
  MAX_STRENGTH,
  parseSelection,
  roundStrength,
  strengthSuffix,
} from '#dist/adapters/selection.js';
import { refusal } from './support.js';

test('names, strengths and their order', () => {
  assert.deepEqual(parseSelection('acme'), [{ id: 'acme', strength: null }]);
  assert.deepEqual(parseSelection('a*0.5+b+a*-1'), [
    { id: 'a', strength: 0.5 },
    { id: 'b', strength: null },
    { id: 'a', strength: -1 },
  ]);
  assert.deepEqual(parseSelection('a b@1*1'), [{ id: 'a b@1', strength: 1 }]);
  assert.equal(parseSelection(Array(MAX_PARTS).fill('a').join('+')).length, MAX_PARTS);
});

test('refused: what is no selection', () => {
  for (const empty of ['', '+', 'a+', '+b', 'a++b', '*0.5', 'a+*2']) {
    assert.throws(() => parseSelection(empty), refusal('INVALID_REQUEST', 'empty part'), empty);
  }
  for (const odd of ['a*', 'a*b', 'a*1e2', 'a*.5', 'a*1.', 'a* 1', 'a*1*2', 'a*0x1', 'a*NaN', 'a*1234567']) {
    assert.throws(() => parseSelection(odd), refusal('INVALID_REQUEST', 'a strength is expected'), odd);
  }
  assert.throws(() => parseSelection('a*11'), refusal('VALUE_OUT_OF_RANGE', '11'));
  const many = Array(MAX_PARTS + 1).fill('a');
  assert.throws(() => parseSelection(many.join('+')), refusal('INVALID_REQUEST', 'At most 8'));
  assert.throws(() => parseSelection('+'.repeat(1e6)), refusal('INVALID_REQUEST', 'At most 8'));
});

test('strengths are rounded to three decimals, within bounds', () => {
  assert.equal(roundStrength(0.50049), 0.5);
  assert.equal(roundStrength(MAX_STRENGTH), MAX_STRENGTH);
  assert.equal(roundStrength(-MAX_STRENGTH), -MAX_STRENGTH);
  assert.ok(Object.is(roundStrength(-0.0001), 0), 'no −0');
  for (const strength of [NaN, Infinity, -Infinity, 10.001, -11]) {
    assert.throws(() => roundStrength(strength), refusal('VALUE_OUT_OF_RANGE'));
  }
  assert.deepEqual([1, 0, -0.001, 0.7].map(strengthSuffix), ['', '*0', '*-0.001', '*0.7']);
});

test('what a strength is shown as selects it again', () => {
  fc.assert(
    fc.property(fc.double({ min: -MAX_STRENGTH, max: MAX_STRENGTH, noNaN: true }), (value) => {
      const strength = roundStrength(value);
      assert.ok(Math.abs(strength - value) <= 0.0005 + 1e-12);
      const [part] = parseSelection(`a${strengthSuffix(strength)}`);
      assert.deepEqual(part, { id: 'a', strength: strength === 1 ? null : strength });
    }),
    { seed: 3 },
  );
});
