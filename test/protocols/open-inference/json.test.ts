import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { field, isJsonObject, parseJson } from '#dist/protocols/open-inference/index.js';
import type { JsonValue } from '#dist/protocols/open-inference/index.js';
import { assertRefused } from './support/requests.js';

const parse = (text: string): JsonValue => parseJson(Buffer.from(text));
/** Makes the second, exact reading happen. */
const LONG = '9007199254740993';

test('whole numbers beyond 2^53 keep all digits, others stay numbers', () => {
  assert.deepEqual(parse(`[${LONG}, -9223372036854775808, 18446744073709551615, 1, -0.5, 1e3]`), [
    9007199254740993n,
    -9223372036854775808n,
    18446744073709551615n,
    1,
    -0.5,
    1000,
  ]);
  assert.deepEqual(parse('[9007199254740991, 0.10000000149011612]'), [9007199254740991, 0.10000000149011612]);
});

test('digits within strings are left alone', () => {
  const value = parse(`{"text": "${LONG} \\" ${LONG}"}`);
  assert.ok(isJsonObject(value));
  assert.equal(field(value, 'text'), `${LONG} " ${LONG}`);
});

test('a number with thousands of digits is a number like any other', () => {
  assert.deepEqual(parse(`[${'9'.repeat(5000)}]`), [Infinity]);
});

test('the exact reading agrees with JSON.parse', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), (json) => {
      const exact = JSON.stringify(parse(`[${LONG}, ${json}]`), (_, value: unknown) =>
        typeof value === 'bigint' ? Number(value) : value,
      );
      assert.deepEqual(JSON.parse(exact), JSON.parse(`[${LONG}, ${json}]`));
    }),
    { seed: 2 },
  );
});

test('keys that name the prototype are ordinary keys', () => {
  for (const extra of ['', `, "n": ${LONG}`]) {
    const value = parse(`{"__proto__": {"inputs": []}, "constructor": 1${extra}}`);
    assert.ok(isJsonObject(value));
    assert.equal(field(value, 'inputs'), undefined);
    assert.equal(field(value, 'toString'), undefined);
    assert.equal(field(value, 'constructor'), 1);
  }
  assert.equal(({} as Record<string, unknown>).inputs, undefined);
});

test('refused: what is not JSON, not UTF-8, or nested without end', () => {
  assertRefused(() => parse('{"a": '), 'INVALID_JSON');
  assertRefused(() => parse(''), 'INVALID_JSON');
  assertRefused(() => parse('[01234567890123456789]'), 'INVALID_JSON');
  assertRefused(() => parse('[NaN]'), 'INVALID_JSON');
  assertRefused(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22)), 'INVALID_JSON', /UTF-8/);
  assertRefused(() => parse('['.repeat(100) + LONG + ']'.repeat(100)), 'INVALID_REQUEST', /nested/);
});
