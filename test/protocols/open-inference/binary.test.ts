import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeInferAnswer } from '#dist/protocols/open-inference/index.js';
import type { Datatype, NumericArray } from '#dist/types.js';
import { assertRefused, binaryBody, decode, modelOf, modelTaking } from './support/requests.js';

function header(name: string, datatype: string, shape: readonly number[], size: number): object {
  return { name, datatype, shape, parameters: { binary_data_size: size } };
}

function bytesOf(array: NumericArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function framed(...texts: string[]): Buffer {
  return Buffer.concat(
    texts.flatMap((text) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(Buffer.byteLength(text));
      return [length, Buffer.from(text)];
    }),
  );
}

test('raw tensors follow the JSON in the order of their inputs, beside inputs in JSON', () => {
  const model = modelOf([
    { name: 'a', datatype: 'UINT8', dims: ['n'] },
    { name: 'b', datatype: 'FP64', dims: ['n'] },
    { name: 'c', datatype: 'BYTES', dims: ['n'] },
    { name: 'd', datatype: 'INT16', dims: ['n'] },
  ]);
  const words = framed('', 'größe');
  const [body, jsonBytes] = binaryBody(
    {
      inputs: [
        header('c', 'BYTES', [2], words.byteLength),
        header('a', 'UINT8', [2], 2),
        { name: 'd', datatype: 'INT16', shape: [2], data: [-1, 1] },
        header('b', 'FP64', [2], 16),
      ],
    },
    words,
    Uint8Array.of(3, 4),
    bytesOf(Float64Array.of(0.1, NaN)),
  );
  const inputs = decode(model, body, jsonBytes);
  assert.deepEqual(inputs.get('a')?.data, Uint8Array.of(3, 4));
  assert.deepEqual(inputs.get('b')?.data, Float64Array.of(0.1, NaN));
  assert.deepEqual(inputs.get('c')?.data, ['', 'größe']);
  assert.deepEqual(inputs.get('d')?.data, Int16Array.of(-1, 1));
});

test('every numeric type at every alignment, owning its bytes', () => {
  const arrays: [Datatype, NumericArray][] = [
    ['BOOL', Uint8Array.of(1, 0)],
    ['UINT8', Uint8Array.of(1, 255)],
    ['UINT16', Uint16Array.of(1, 65535)],
    ['UINT32', Uint32Array.of(1, 4294967295)],
    ['UINT64', BigUint64Array.of(1n, 2n ** 64n - 1n)],
    ['INT8', Int8Array.of(1, -128)],
    ['INT16', Int16Array.of(1, -32768)],
    ['INT32', Int32Array.of(1, -2147483648)],
    ['INT64', BigInt64Array.of(1n, -(2n ** 63n))],
    ['FP16', Uint16Array.of(0x3c00, 0x7c00)],
    ['FP32', Float32Array.of(1, Infinity)],
    ['FP64', Float64Array.of(1, -Infinity)],
  ];
  for (const [datatype, array] of arrays) {
    for (let pad = 0; pad < 8; pad++) {
      const inputs = [header('x', datatype, [2], array.byteLength)];
      const [body, jsonBytes] = binaryBody({ id: '.'.repeat(pad), inputs }, bytesOf(array));
      const data = decode(modelTaking(datatype), body, jsonBytes).get('x')?.data;
      assert.deepEqual(data, array, datatype);
      assert.equal(data.buffer.byteLength, array.byteLength);
    }
  }
});

test('refused: lengths that do not add up', () => {
  const model = modelTaking('INT32');
  const attempt = (size: number, raw: number, shape = [1]): (() => unknown) => {
    const [body, jsonBytes] = binaryBody(
      { inputs: [header('x', 'INT32', shape, size)] },
      new Uint8Array(raw),
    );
    return () => decode(model, body, jsonBytes);
  };
  assertRefused(attempt(4, 3), 'WRONG_BINARY_LENGTH', /only 3 bytes are left/);
  assertRefused(attempt(4, 5), 'WRONG_BINARY_LENGTH', /1 bytes follow/);
  assertRefused(attempt(5, 5), 'WRONG_BINARY_LENGTH', /take 4 bytes, found 5/);
  assertRefused(attempt(4, 4, [2]), 'WRONG_BINARY_LENGTH', /take 8 bytes, found 4/);
  assertRefused(attempt(4, 4, [1e7]), 'WRONG_SHAPE', /more than the body/);
  const [body, jsonBytes] = binaryBody({ inputs: [] });
  assertRefused(() => decode(model, body, jsonBytes + 1), 'WRONG_BINARY_LENGTH', /Content-Length is/);
  const [unannounced] = binaryBody({ inputs: [header('x', 'INT32', [1], 4)] });
  assertRefused(() => decode(model, unannounced), 'WRONG_BINARY_LENGTH', /send the header/);
});

test('refused: sizes that are none, and data given twice', () => {
  const attempt = (input: object): (() => unknown) => {
    const [body, jsonBytes] = binaryBody({
      inputs: [{ name: 'x', datatype: 'INT32', shape: [1], ...input }],
    });
    return () => decode(modelTaking('INT32'), body, jsonBytes);
  };
  for (const size of [-4, 0.5, '4', true]) {
    assertRefused(attempt({ parameters: { binary_data_size: size } }), 'INVALID_REQUEST', /binary_data_size/);
  }
  assertRefused(attempt({ data: [1], parameters: { binary_data_size: 4 } }), 'WRONG_DATA', /not both/);
});

test('refused: a BOOL that is neither 0 nor 1, text that is not UTF-8, broken frames', () => {
  const attempt = (datatype: Datatype, raw: Uint8Array, shape: number[]): (() => unknown) => {
    const [body, jsonBytes] = binaryBody({ inputs: [header('x', datatype, shape, raw.byteLength)] }, raw);
    return () => decode(modelTaking(datatype), body, jsonBytes);
  };
  assertRefused(attempt('BOOL', Uint8Array.of(1, 2), [2]), 'WRONG_DATA', /byte 1/);
  assertRefused(attempt('BYTES', Uint8Array.of(1, 0, 0, 0, 0xff), [1]), 'WRONG_DATA', /UTF-8/);
  assertRefused(attempt('BYTES', Uint8Array.of(9, 0, 0, 0, 65), [1]), 'WRONG_BINARY_LENGTH', /4-byte length/);
  assertRefused(attempt('BYTES', Uint8Array.of(0, 0, 0), [1]), 'WRONG_BINARY_LENGTH');
  assertRefused(attempt('BYTES', framed('abc', 'd').subarray(0, 10), [2]), 'WRONG_BINARY_LENGTH');
  assertRefused(attempt('BYTES', framed('a', 'b'), [1]), 'WRONG_BINARY_LENGTH');
  assertRefused(attempt('BYTES', framed('a'), [2]), 'WRONG_BINARY_LENGTH');
});

test('a raw request is the only input; its shape follows from its length', () => {
  const raw = bytesOf(Float32Array.of(1, 2, 3, 4, 5, 6));
  const tensor = decode(modelTaking('FP32', ['batch', 'sequence', 2]), raw, 0).get('x');
  assert.deepEqual(tensor?.shape, [1, 3, 2]);
  assert.deepEqual(tensor.data, Float32Array.of(1, 2, 3, 4, 5, 6));
  const text = decode(modelTaking('BYTES', ['batch', 1]), 'hello', 0).get('x');
  assert.deepEqual(text, { datatype: 'BYTES', shape: [1, 1], data: ['hello'] });
});

test('refused: raw requests whose shape cannot be told', () => {
  const two = modelOf([
    { name: 'a', datatype: 'UINT8', dims: [1] },
    { name: 'b', datatype: 'UINT8', dims: [1] },
  ]);
  assertRefused(() => decode(two, 'ab', 0), 'INVALID_REQUEST', /one input/);
  assertRefused(
    () => decode(modelTaking('FP32', ['n', 'a', 'b']), new Uint8Array(8), 0),
    'WRONG_SHAPE',
    /told/,
  );
  assertRefused(
    () => decode(modelTaking('FP32', ['n', 'a', 2]), new Uint8Array(12), 0),
    'WRONG_BINARY_LENGTH',
  );
  assertRefused(() => decode(modelTaking('FP32', ['n', 2]), new Uint8Array(12), 0), 'WRONG_BINARY_LENGTH');
  assertRefused(() => decode(modelTaking('BYTES', ['n', 2]), 'hello', 0), 'WRONG_SHAPE', /one element/);
});

test('what is encoded in binary decodes to the same bits', () => {
  fc.assert(
    fc.property(fc.array(fc.float()), fc.array(fc.string({ unit: 'binary' })), (floats, texts) => {
      const outputs = new Map([
        ['a', { datatype: 'FP32' as const, shape: [floats.length], data: Float32Array.from(floats) }],
        [
          'b',
          {
            datatype: 'BYTES' as const,
            shape: [texts.length],
            data: texts,
          },
        ],
      ]);
      const answer = encodeInferAnswer({ modelName: 'm', modelVersion: null, id: null, outputs }, [
        { name: 'a', binary: true },
        { name: 'b', binary: true },
      ]);
      const body = Buffer.concat([...answer.parts].map((part) => Buffer.from(part)));
      assert.equal(body.byteLength, answer.byteLength);
      const json = body.subarray(0, answer.jsonBytes ?? 0).toString();
      const tail = body.subarray(answer.jsonBytes ?? 0);
      const { outputs: inputs } = JSON.parse(json) as { outputs: object[] };
      const model = modelOf([
        { name: 'a', datatype: 'FP32', dims: ['n'] },
        { name: 'b', datatype: 'BYTES', dims: ['m'] },
      ]);
      const [again, jsonBytes] = binaryBody({ inputs }, tail);
      const decoded = decode(model, again, jsonBytes);
      assert.deepEqual(decoded.get('a')?.data, outputs.get('a')?.data);
      assert.deepEqual(decoded.get('b')?.data, outputs.get('b')?.data);
    }),
    { seed: 4 },
  );
});
