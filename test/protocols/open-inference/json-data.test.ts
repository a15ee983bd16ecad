import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Datatype } from '#dist/types.js';
import { assertRefused, bodyWith, decode, decodeX, modelTaking } from './support/requests.js';

test('every datatype', () => {
  const cases: [Datatype, string, unknown][] = [
    ['BOOL', '[true, false]', Uint8Array.of(1, 0)],
    ['UINT8', '[0, 255]', Uint8Array.of(0, 255)],
    ['UINT16', '[0, 65535]', Uint16Array.of(0, 65535)],
    ['UINT32', '[0, 4294967295]', Uint32Array.of(0, 4294967295)],
    ['UINT64', '[0, 18446744073709551615]', BigUint64Array.of(0n, 18446744073709551615n)],
    ['INT8', '[-128, 127]', Int8Array.of(-128, 127)],
    ['INT16', '[-32768, 32767]', Int16Array.of(-32768, 32767)],
    ['INT32', '[-2147483648, 2147483647]', Int32Array.of(-2147483648, 2147483647)],
    ['INT64', '[-9223372036854775808, 9223372036854775807]', BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)],
    ['FP16', '[1, -2.5]', Uint16Array.of(0x3c00, 0xc100)],
    ['FP32', '[1, -2.5]', Float32Array.of(1, -2.5)],
    ['FP64', '[0.1, 12345678901234567890]', Float64Array.of(0.1, 12345678901234567168)],
    ['BYTES', '["", "grüße\\u0000"]', ['', 'grüße\0']],
  ];
  for (const [datatype, data, expected] of cases) {
    const tensor = decodeX(datatype, [2], data);
    assert.deepEqual(tensor.data, expected, datatype);
    assert.equal(tensor.datatype, datatype);
    assert.deepEqual(tensor.shape, [2]);
  }
});

test('INT64 keeps every bit', () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { minLength: 1 }),
      (integers) => {
        const { data } = decodeX('INT64', [integers.length], `[${integers.join(',')}]`);
        assert.deepEqual(data, BigInt64Array.from(integers));
      },
    ),
    { seed: 3 },
  );
});

test('flat and nested data mean the same', () => {
  const expected = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  assert.deepEqual(decodeX('FP32', [2, 2, 2], '[1,2,3,4,5,6,7,8]').data, expected);
  assert.deepEqual(decodeX('FP32', [2, 2, 2], '[[[1,2],[3,4]],[[5,6],[7,8]]]').data, expected);
  assert.deepEqual(decodeX('INT32', [1, 0], '[[]]').data, new Int32Array(0));
  assert.deepEqual(decodeX('INT32', [1, 0], '[]').data, new Int32Array(0));
  assert.deepEqual(decodeX('FP32', [], '[7]').data, Float32Array.of(7));
});

test('refused: ragged data and other counts than the shape has', () => {
  for (const data of [
    '[[1,2],[3]]',
    '[[1,2],3]',
    '[[1,2],[3,[4]]]',
    '[[1,2]]',
    '[[1,2],[3,4],[5,6]]',
    '[1,[2],3,4]',
  ]) {
    assertRefused(() => decodeX('FP32', [2, 2], data), 'WRONG_SHAPE', /"x"/);
  }
  assertRefused(() => decodeX('FP32', [2, 2], '[1,2,3]'), 'WRONG_SHAPE', /4 elements, data has 3/);
});

test('refused: elements of another type', () => {
  const cases: [Datatype, string][] = [
    ['BOOL', '1'],
    ['INT32', '1.5'],
    ['INT32', '"1"'],
    ['INT64', '0.5'],
    ['INT64', '"12"'],
    ['INT64', 'true'],
    ['FP32', 'null'],
    ['FP32', '"NaN"'],
    ['FP16', '{}'],
    ['BYTES', '1'],
  ];
  for (const [datatype, element] of cases) {
    assertRefused(() => decodeX(datatype, [1], `[${element}]`), 'WRONG_DATA', /element 0 must be/);
  }
  assertRefused(() => decodeX('FP32', [1], '5'), 'WRONG_DATA', /must be a list/);
});

test('refused: values that do not fit', () => {
  const cases: [Datatype, string][] = [
    ['UINT8', '256'],
    ['UINT8', '-1'],
    ['INT8', '-129'],
    ['UINT16', '65536'],
    ['INT16', '32768'],
    ['UINT32', '4294967296'],
    ['INT32', '-2147483649'],
    ['INT32', '9223372036854775808'],
    ['INT64', '9223372036854775808'],
    ['INT64', '-9223372036854775809'],
    ['INT64', '1e300'],
    ['INT64', '9007199254740993.0'],
    ['UINT64', '-1'],
    ['UINT64', '18446744073709551616'],
    ['FP16', '65520'],
    ['FP32', '1e39'],
    ['FP64', '1e400'],
  ];
  for (const [datatype, element] of cases) {
    assertRefused(() => decodeX(datatype, [1], `[${element}]`), 'VALUE_OUT_OF_RANGE', /element 0/);
  }
});

test('refused before anything is allocated: more elements than the body can hold', () => {
  const dims = ['a', 'b', 'c'];
  const huge = bodyWith('FP64', [1, 1, 60_000_000], '[[[1]]]');
  assertRefused(() => decode(modelTaking('FP64', dims), huge), 'WRONG_SHAPE', /more than the body/);
  const overflowing = bodyWith('FP64', [2 ** 40, 2 ** 40, 2 ** 40], '[]');
  assertRefused(() => decode(modelTaking('FP64', dims), overflowing), 'WRONG_SHAPE', /at most/);
});
