import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  encodeInferAnswer,
  encodeModelMetadata,
  encodeRepositoryIndex,
  encodeStatistics,
} from '#dist/protocols/open-inference/index.js';
import type { EncodedAnswer } from '#dist/protocols/open-inference/index.js';
import type { AdapterInfo, Datatype, NumericArray, Tensor } from '#dist/types.js';
import { assertRefused, modelTaking } from './support/requests.js';

function answerWith(
  tensor: Tensor,
  id: string | null = null,
  modelVersion: string | null = null,
): EncodedAnswer {
  return encodeInferAnswer({ modelName: 'acme', modelVersion, id, outputs: new Map([['o', tensor]]) }, [
    { name: 'o', binary: false },
  ]);
}

function textOf(answer: EncodedAnswer): string {
  return Buffer.concat([...answer.parts].map((part) => Buffer.from(part))).toString();
}

test('every datatype in JSON', () => {
  const cases: [Datatype, NumericArray | string[], string][] = [
    ['BOOL', Uint8Array.of(1, 0), '[true,false]'],
    ['UINT8', Uint8Array.of(0, 255), '[0,255]'],
    ['INT64', BigInt64Array.of(-(2n ** 63n), 2n ** 53n + 1n), '[-9223372036854775808,9007199254740993]'],
    ['UINT64', BigUint64Array.of(2n ** 64n - 1n, 0n), '[18446744073709551615,0]'],
    ['FP16', Uint16Array.of(0x3c00, 0x7c00), '[1,null]'],
    ['FP32', Float32Array.of(0.5, NaN), '[0.5,null]'],
    ['FP64', Float64Array.of(0.1, -Infinity), '[0.1,null]'],
    ['BYTES', ['a"b', 'ü'], '["a\\"b","ü"]'],
  ];
  for (const [datatype, data, expected] of cases) {
    assert.equal(
      textOf(answerWith({ datatype, shape: [2], data })),
      `{"model_name":"acme","outputs":[{"name":"o","datatype":"${datatype}","shape":[2],"data":${expected}}]}`,
    );
  }
});

test('id and version appear only where there are any', () => {
  const tensor: Tensor = { datatype: 'FP32', shape: [0], data: new Float32Array(0) };
  assert.deepEqual(JSON.parse(textOf(answerWith(tensor, 'i"d', 'v1'))), {
    model_name: 'acme',
    model_version: 'v1',
    id: 'i"d',
    outputs: [{ name: 'o', datatype: 'FP32', shape: [0], data: [] }],
  });
});

test('a short answer tells its length, a long one comes in pieces', () => {
  const short = answerWith({ datatype: 'FP32', shape: [2], data: Float32Array.of(1, 2) });
  assert.equal(short.byteLength, Buffer.byteLength(textOf(short)));
  const data = Float32Array.from({ length: 20_000 }, (_, index) => index / 7);
  const long = answerWith({ datatype: 'FP32', shape: [20_000], data });
  assert.equal(long.byteLength, null);
  const parts = [...long.parts];
  assert.ok(parts.every((part) => part.length < 200_000));
  const parsed = JSON.parse(parts.join('')) as { outputs: [{ data: number[] }] };
  assert.deepEqual(Float32Array.from(parsed.outputs[0].data), data);
});

test('outputs in JSON and in binary share one answer', () => {
  const data = Float32Array.of(1, NaN);
  const outputs = new Map<string, Tensor>([
    ['a', { datatype: 'FP32', shape: [2], data }],
    ['b', { datatype: 'INT8', shape: [1], data: Int8Array.of(-3) }],
  ]);
  const answer = encodeInferAnswer({ modelName: 'm', modelVersion: null, id: null, outputs }, [
    { name: 'b', binary: false },
    { name: 'a', binary: true },
  ]);
  assert.equal(answer.contentType, 'application/octet-stream');
  const parts = [...answer.parts];
  const [json, raw] = parts;
  assert.deepEqual(JSON.parse(String(json)), {
    model_name: 'm',
    outputs: [
      { name: 'b', datatype: 'INT8', shape: [1], data: [-3] },
      { name: 'a', datatype: 'FP32', shape: [2], parameters: { binary_data_size: 8 } },
    ],
  });
  assert.ok(raw instanceof Uint8Array);
  assert.equal(raw.buffer, data.buffer, 'the bytes are a view of the tensor');
});

test('refused: an output that the model did not return', () => {
  const answer = { modelName: 'm', modelVersion: null, id: null, outputs: new Map() };
  assertRefused(() => encodeInferAnswer(answer, [{ name: 'o', binary: false }]), 'INTERNAL');
});

test('metadata writes variable dimensions as -1', () => {
  const acme = { name: 'acme', version: 'v1', labels: null };
  assert.deepEqual(encodeModelMetadata(modelTaking('INT64', ['batch', '', 3]), acme), {
    name: 'acme',
    versions: ['v1'],
    platform: 'onnx_onnxv1',
    inputs: [{ name: 'x', datatype: 'INT64', shape: [-1, -1, 3] }],
    outputs: [
      { name: 'logits', datatype: 'FP32', shape: [-1, 2] },
      { name: 'states', datatype: 'FP16', shape: [-1, -1] },
    ],
  });
  const unread = encodeModelMetadata(modelTaking('INT64'), { ...acme, version: null });
  assert.ok(!('versions' in unread));
});

test('metadata tell the width of an adapter’s own head', () => {
  const labels = ['low', 'middle', 'high'];
  const model = modelTaking('INT64');
  const outputsOf = (base: typeof model): unknown =>
    (encodeModelMetadata(base, { name: 'acme', version: 'v1', labels }) as { outputs: unknown }).outputs;
  const states = { name: 'states', datatype: 'FP16', shape: [-1, -1] };
  assert.deepEqual(outputsOf(model), [{ name: 'logits', datatype: 'FP32', shape: [-1, 3] }, states]);
  // The only output of rank 2 need not be called so; of several, nobody knows.
  const scores = { name: 'scores', datatype: 'FP32', dims: ['batch', 2] } as const;
  assert.deepEqual(outputsOf({ ...model, outputs: [scores] }), [
    { name: 'scores', datatype: 'FP32', shape: [-1, 3] },
  ]);
  assert.deepEqual(outputsOf({ ...model, outputs: [scores, { ...scores, name: 'other' }] }), [
    { name: 'scores', datatype: 'FP32', shape: [-1, 2] },
    { name: 'other', datatype: 'FP32', shape: [-1, 2] },
  ]);
});

const ADAPTER: AdapterInfo = {
  id: 'acme',
  version: 'v1',
  state: 'ready',
  tier: 'host',
  kind: 'BOFT',
  mode: 'auto',
  pinned: false,
  strength: 1,
  labels: null,
  modules: [],
  bytes: 1,
  orthogonalityResidual: 0,
  requests: 0,
  lastUsedAt: null,
  addedAt: 0,
  error: null,
};

test('the repository index tells what can be asked for, and why not', () => {
  const model = modelTaking('INT64');
  const error = { code: 'ADAPTER_EMPTY', message: 'no tensors' };
  const adapters: AdapterInfo[] = [
    ADAPTER,
    { ...ADAPTER, id: 'cold', version: null, state: 'available' },
    { ...ADAPTER, id: 'coming', version: null, state: 'loading' },
    { ...ADAPTER, id: 'broken', version: null, state: 'failed', error },
    { ...ADAPTER, id: 'gone', state: 'unloaded' },
  ];
  assert.deepEqual(encodeRepositoryIndex(model, true, adapters, false), [
    { name: 'base', version: model.digest, state: 'READY', reason: '' },
    { name: 'acme', version: 'v1', state: 'READY', reason: '' },
    { name: 'cold', state: 'READY', reason: '' },
    { name: 'coming', state: 'LOADING', reason: '' },
    { name: 'broken', state: 'UNAVAILABLE', reason: 'no tensors' },
    { name: 'gone', version: 'v1', state: 'UNAVAILABLE', reason: 'unloaded' },
  ]);
  const names = encodeRepositoryIndex(model, false, adapters, true).map(({ name }) => name);
  assert.deepEqual(names, ['acme', 'cold']);
});

test('statistics under the names of the extension', () => {
  const figure = (count: number) => ({ count, ns: count * 10 });
  const encoded = encodeStatistics([
    {
      name: 'acme',
      version: null,
      lastInference: 5,
      inferenceCount: 3,
      executionCount: 2,
      success: figure(1),
      fail: figure(2),
      queue: figure(3),
      computeInput: figure(4),
      computeInfer: figure(5),
      computeOutput: figure(6),
      batches: [{ rows: 8, count: 2, inferNs: 99 }],
    },
  ]);
  assert.deepEqual(encoded, {
    model_stats: [
      {
        name: 'acme',
        version: '',
        last_inference: 5,
        inference_count: 3,
        execution_count: 2,
        inference_stats: {
          success: figure(1),
          fail: figure(2),
          queue: figure(3),
          compute_input: figure(4),
          compute_infer: figure(5),
          compute_output: figure(6),
          cache_hit: { count: 0, ns: 0 },
          cache_miss: { count: 0, ns: 0 },
        },
        batch_stats: [{ batch_size: 8, compute_infer: { count: 2, ns: 99 } }],
      },
    ],
  });
});
