/** Every way in which a safetensors file can be wrong, and the odd ones that are right. */
import assert from 'node:assert/strict';
import { closeSync, openSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { PapillonError } from '#dist/errors.js';
import { findDuplicateKey } from '#dist/adapters/json-duplicates.js';
import { decodeTensor, openSafetensors, readData } from '#dist/adapters/safetensors.js';
import { MAX_HEADER_BYTES, parseHeader, readHeaderLength } from '#dist/adapters/safetensors-header.js';
import { rawSafetensors, refusal, safetensors, temporaryDirectory, type Tensors } from './support.js';

const parse = (header: string, dataBytes: number) => parseHeader(Buffer.from(header), dataBytes);

function entry(change: object = {}): object {
  return { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...change };
}

function parseOne(change: object, dataBytes = 8): unknown {
  return parse(JSON.stringify({ a: entry(change) }), dataBytes);
}

/** Values of all tensors of a file that was really written and read. */
function roundTrip(t: TestContext, file: Uint8Array): Map<string, Float32Array | Float64Array> {
  const name = path.join(temporaryDirectory(t), 'file');
  writeFileSync(name, file);
  const fd = openSync(name, 'r');
  try {
    const opened = openSafetensors(fd, statSync(name).size);
    const data = readData(fd, opened);
    return new Map([...opened.entries].map(([key, value]) => [key, decodeTensor(data, value)]));
  } finally {
    closeSync(fd);
  }
}

test('tensors of every float type come back, from unaligned data too', (t) => {
  const tensors: Tensors = {
    odd: { shape: [1], values: [0x3c00], dtype: 'F16' },
    single: { shape: [2], values: [1.5, -2] },
    half: { shape: [3], values: [0x3c00, 0xc000, 0x0001], dtype: 'F16' },
    brain: { shape: [2, 1], values: [0x3f80, 0xc040], dtype: 'BF16' },
    double: { shape: [], values: [Math.PI], dtype: 'F64' },
    none: { shape: [0, 4], values: [] },
  };
  const read = roundTrip(t, safetensors(tensors));
  assert.deepEqual([...(read.get('single') ?? [])], [1.5, -2]);
  assert.deepEqual([...(read.get('half') ?? [])], [1, -2, 2 ** -24]);
  assert.deepEqual([...(read.get('brain') ?? [])], [1, -3]);
  assert.deepEqual([...(read.get('double') ?? [])], [Math.PI]);
  assert.equal(read.get('none')?.length, 0);
});

test('a header padded with 64 KiB of spaces is read', (t) => {
  const header = JSON.stringify({ a: entry() }) + ' '.repeat(65536);
  const read = roundTrip(t, rawSafetensors(header, Buffer.from(Float32Array.of(3, 4).buffer)));
  assert.deepEqual([...(read.get('a') ?? [])], [3, 4]);
});

test('tensors may be listed in any order', () => {
  const header = { b: entry({ data_offsets: [8, 16] }), a: entry() };
  assert.deepEqual([...parse(JSON.stringify(header), 16).keys()], ['a', 'b']);
});

test('header length: too short a file, longer than the file, longer than is read', () => {
  const prefix = (length: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(length);
    return bytes;
  };
  assert.throws(() => readHeaderLength(new Uint8Array(3), 3), refusal('SAFETENSORS_TRUNCATED', '3 bytes'));
  assert.throws(() => readHeaderLength(prefix(100n), 50), refusal('SAFETENSORS_TRUNCATED', '100'));
  for (const length of [2n ** 63n - 1n, 2n ** 64n - 1n, 200_000_000n, BigInt(MAX_HEADER_BYTES) + 1n]) {
    assert.throws(() => readHeaderLength(prefix(length), 1e9), refusal('SAFETENSORS_HEADER_TOO_LARGE'));
  }
  assert.equal(readHeaderLength(prefix(BigInt(MAX_HEADER_BYTES)), 1e9), MAX_HEADER_BYTES);
});

test('a header that is no JSON object, or no UTF-8', () => {
  for (const header of [
    '',
    '{',
    'not',
    '[]',
    'null',
    '7',
    '"a"',
    ' {}',
    '\ufeff{}',
    "{'a': 1}",
    '{"a": NaN}',
  ]) {
    assert.throws(() => parse(header, 0), refusal('SAFETENSORS_HEADER_INVALID'), header);
  }
  assert.throws(() => parseHeader(Uint8Array.of(0x7b, 0xff, 0x7d), 0), refusal('SAFETENSORS_HEADER_INVALID'));
});

test('an entry without dtype, shape or offsets of the right type', () => {
  for (const change of [
    { dtype: 7 },
    { shape: '2' },
    { shape: ['2'] },
    { data_offsets: null },
    { shape: null },
  ]) {
    assert.throws(() => parseOne(change), refusal('SAFETENSORS_HEADER_INVALID', '"a"'));
  }
  assert.throws(() => parse('{"a": [1]}', 0), refusal('SAFETENSORS_HEADER_INVALID', '"a"'));
  assert.throws(() => parse('{"a": null}', 0), refusal('SAFETENSORS_HEADER_INVALID', '"a"'));
});

test('a dtype nobody knows', () => {
  assert.throws(() => parseOne({ dtype: 'Q4_K' }), refusal('SAFETENSORS_DTYPE_UNKNOWN', '"a"', 'Q4_K'));
  assert.throws(() => parseOne({ dtype: 'constructor' }), refusal('SAFETENSORS_DTYPE_UNKNOWN'));
});

test('offsets that are no ascending pair of sizes', () => {
  for (const data_offsets of [[-8, 0], [8, 0], [0], [0, 8, 16], [0.5, 8.5], [0, 2 ** 60]]) {
    assert.throws(() => parseOne({ data_offsets }), refusal('SAFETENSORS_OFFSETS_INVALID', '"a"'));
  }
});

test('a shape that does not fit the byte range, or no memory at all', () => {
  for (const shape of [[3], [2, 2], [-2], [0.5], [2 ** 31, 2 ** 31, 4], [2 ** 60, 0]]) {
    assert.throws(() => parseOne({ shape }), refusal('SAFETENSORS_SIZE_MISMATCH', '"a"'));
  }
  assert.throws(() => parseOne({ dtype: 'F4', shape: [15] }), refusal('SAFETENSORS_SIZE_MISMATCH'));
});

test('overlaps, holes, trailing and missing bytes', () => {
  const two = (begin: number) =>
    JSON.stringify({ a: entry(), b: entry({ data_offsets: [begin, begin + 8] }) });
  assert.throws(() => parse(two(4), 12), refusal('SAFETENSORS_OVERLAP', '"b"'));
  assert.throws(() => parse(two(0), 8), refusal('SAFETENSORS_OVERLAP'));
  assert.throws(() => parse(two(12), 20), refusal('SAFETENSORS_GAP', '"b"'));
  assert.throws(() => parse(two(8), 20), refusal('SAFETENSORS_TRAILING_BYTES', '4 bytes'));
  assert.throws(() => parse('{}', 1), refusal('SAFETENSORS_TRAILING_BYTES'));
  assert.throws(() => parse(two(8), 15), refusal('SAFETENSORS_TRUNCATED', '"b"'));
});

test('duplicate keys, which JSON.parse would drop', () => {
  const one = JSON.stringify(entry());
  assert.throws(() => parse(`{"a": ${one}, "a": ${one}}`, 8), refusal('SAFETENSORS_DUPLICATE_KEY', '"a"'));
  assert.throws(() => parse(`{"a": ${one}, "\\u0061": ${one}}`, 8), refusal('SAFETENSORS_DUPLICATE_KEY'));
  const twice = one.replace('{', '{"dtype": "F16", ');
  assert.throws(() => parse(`{"a": ${twice}}`, 8), refusal('SAFETENSORS_DUPLICATE_KEY', 'dtype'));
});

test('names of object properties are names like any other', () => {
  const header = `{"__proto__": ${JSON.stringify(entry())}, "constructor": ${JSON.stringify(entry({ data_offsets: [8, 16] }))}}`;
  assert.deepEqual([...parse(header, 16).keys()], ['__proto__', 'constructor']);
});

test('duplicates are found exactly where an object repeats a key', () => {
  assert.equal(findDuplicateKey('{"a": {"b": 1}, "c": {"b": [{"b": "b"}, {"b": "\\"}"}]}}'), null);
  assert.equal(findDuplicateKey('{"a": [{"x": 1, "y": {}, "x": 2}]}'), 'x');
  fc.assert(
    fc.property(fc.json(), (text) => {
      assert.equal(findDuplicateKey(JSON.stringify(JSON.parse(text))), null);
    }),
    { numRuns: 200, seed: 4 },
  );
});

test('integers are no parameters', (t) => {
  const file = safetensors({ a: { shape: [1], values: [1], dtype: 'I32' } });
  assert.throws(() => roundTrip(t, file), refusal('SAFETENSORS_DTYPE_UNSUPPORTED', '"a"', 'I32'));
});

test('values that are not finite', (t) => {
  for (const [dtype, bits] of [
    ['F32', NaN],
    ['F64', -Infinity],
    ['F16', 0x7c00],
    ['BF16', 0x7fc0],
  ] as const) {
    const file = safetensors({ a: { shape: [2], values: [0, bits], dtype } });
    assert.throws(() => roundTrip(t, file), refusal('ADAPTER_NOT_FINITE', '"a"', 'element 1'));
  }
});

test('any damage to a header is an error of ours or harmless, never another exception', () => {
  const healthy = JSON.stringify({ a: entry(), b: entry({ data_offsets: [8, 16] }) });
  fc.assert(
    fc.property(
      fc.nat(healthy.length - 1),
      fc.string({ minLength: 0, maxLength: 3 }),
      fc.nat(3),
      (at, inserted, removed) => {
        const damaged = healthy.slice(0, at) + inserted + healthy.slice(at + removed);
        try {
          parse(damaged, 16);
        } catch (error) {
          assert.ok(error instanceof PapillonError, String(error));
        }
      },
    ),
    { numRuns: 500, seed: 5 },
  );
});
