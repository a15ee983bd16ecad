import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fromHalfBits, toHalfBits } from '#dist/protocols/open-inference/index.js';

test('every binary16 pattern survives the way to a number and back', () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = fromHalfBits(bits);
    if (Number.isNaN(value)) assert.equal(toHalfBits(value), 0x7e00);
    else assert.equal(toHalfBits(value), bits, `pattern ${bits.toString(16)}`);
  }
});

test('known values', () => {
  assert.equal(toHalfBits(1), 0x3c00);
  assert.equal(toHalfBits(-2), 0xc000);
  assert.equal(toHalfBits(65504), 0x7bff);
  assert.equal(toHalfBits(65519.99), 0x7bff);
  assert.equal(toHalfBits(65520), 0x7c00);
  assert.equal(toHalfBits(-Infinity), 0xfc00);
  assert.equal(toHalfBits(-0), 0x8000);
  assert.equal(toHalfBits(2 ** -24), 1);
  // Ties go to the even neighbour.
  assert.equal(toHalfBits(2 ** -25), 0);
  assert.equal(toHalfBits(1 + 2 ** -11), 0x3c00);
  assert.equal(toHalfBits(1 + 3 * 2 ** -11), 0x3c02);
  // By way of float32 this would become a tie and round up.
  assert.equal(toHalfBits(1 + 2 ** -11 - 2 ** -40), 0x3c00);
  assert.equal(toHalfBits(1 + 2 ** -11 + 2 ** -40), 0x3c01);
});

test('the nearest binary16 is chosen', () => {
  const finite = Array.from({ length: 0x7c00 }, (_, bits) => bits);
  fc.assert(
    fc.property(fc.double({ min: 0, max: 65504, noNaN: true }), (value) => {
      const distance = Math.abs(fromHalfBits(toHalfBits(value)) - value);
      const best = finite.reduce(
        (least, bits) => Math.min(least, Math.abs(fromHalfBits(bits) - value)),
        Infinity,
      );
      assert.equal(distance, best);
    }),
    { numRuns: 50, seed: 1 },
  );
});
