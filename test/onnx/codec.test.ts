/** The codec: nothing is lost, weights stay in their files, and broken files are refused without naming a path. */
import assert from 'node:assert/strict';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import * as fc from 'fast-check';
import * as ort from 'onnxruntime-node';
import { PapillonError } from '#dist/errors.js';
import {
  AttributeProtoSchema,
  GraphProtoSchema,
  StringStringEntryProtoSchema,
  TensorProtoSchema,
} from '#dist/onnx/gen/onnx_pb.js';
import {
  copyModel,
  encodeModel,
  externalEntry,
  openModel,
  readFloats,
  tensorBytes,
  tensorDims,
  weightFiles,
} from '#dist/onnx/model.js';
import { EXTERNAL_FROM_BYTES, readSkeleton } from '#dist/onnx/skeleton.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import {
  ELEM,
  floatTensor,
  int64Tensor,
  linear,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
  writeModel,
} from '../support/tiny-models.js';
import type { ModelProto, TensorProto } from '../support/tiny-models.js';
import { FIELD, bytesField, fixed32Field, fixed64Field, varint, varintField } from './wire.js';

const D = 16;

/** y = x Wᵀ + b, in one layer whose weight is large enough to stay in the file. */
function oneLayer(): ModelProto {
  const parts = linear({
    module: 'net.fc',
    input: 'x',
    output: 'y',
    inFeatures: D,
    outFeatures: D,
    form: 'MatMulAdd',
    seed: 1,
  });
  return makeModel({
    inputs: [makeValueInfo('x', ELEM.FLOAT, ['batch', D])],
    outputs: [makeValueInfo('y', ELEM.FLOAT, ['batch', D])],
    nodes: [...parts.nodes],
    initializers: [...parts.initializers],
  });
}

async function run(path: string): Promise<Float32Array> {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1 });
  const x = new ort.Tensor('float32', randomFloats(9, 3 * D), [3, D]);
  const { y } = await session.run({ x });
  await session.release();
  return y?.data as Float32Array;
}

function refusal(action: () => unknown, path: string): string {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof PapillonError, String(error));
    assert.equal(error.code, 'BASE_UNREADABLE');
    assert.ok(!error.message.includes(path) && !error.message.includes('/'), error.message);
    return error.message;
  }
  assert.fail('was not refused');
}

function initializer(model: ReturnType<typeof openModel>, name: string): TensorProto {
  const tensor = model.graph.initializer.find((candidate) => candidate.name === name);
  assert.ok(tensor);
  return tensor;
}

describe('the codec keeps weights in their file', () => {
  it('refers to the right bytes of the original file', () => {
    const folder = temporaryFolder();
    const proto = oneLayer();
    const path = writeModel(folder, proto);
    const file = readFileSync(path);
    const model = openModel(path);
    const original = proto.graph?.initializer[0];
    assert.ok(original);
    const tensor = initializer(model, original.name);
    assert.equal(tensor.rawData.length, 0);
    assert.equal(tensor.dataLocation, 1);
    assert.equal(externalEntry(tensor, 'location'), 'model.onnx');
    const offset = Number(externalEntry(tensor, 'offset'));
    const length = Number(externalEntry(tensor, 'length'));
    assert.deepEqual(new Uint8Array(file.subarray(offset, offset + length)), original.rawData);
    assert.deepEqual(tensorBytes(model, tensor), original.rawData);
    assert.deepEqual(tensorDims(tensor), [D, D]);
    assert.deepEqual(weightFiles(model), ['model.onnx']);
  });

  it('gives bit-equal outputs when the re-encoded graph lies beside the file', async () => {
    const folder = temporaryFolder();
    const path = writeModel(folder, oneLayer());
    const rewritten = join(folder, 'rewritten.onnx');
    writeFileSync(rewritten, encodeModel(openModel(path)));
    assert.ok(statSync(rewritten).size < statSync(path).size);
    assert.deepEqual(await run(rewritten), await run(path));
    // And once more, from a graph whose weights are already external.
    const again = join(folder, 'again.onnx');
    writeFileSync(again, encodeModel(copyModel(openModel(rewritten))));
    assert.deepEqual(await run(again), await run(path));
  });

  it('keeps small tensors in memory', () => {
    const count = EXTERNAL_FROM_BYTES / 4;
    const proto = makeModel({
      inputs: [makeValueInfo('x', ELEM.FLOAT, [count])],
      outputs: [makeValueInfo('y', ELEM.FLOAT, [count])],
      nodes: [makeNode('Add', ['x', 'large'], ['y'], { name: 'add' })],
      initializers: [
        floatTensor('large', [count], randomFloats(1, count)),
        floatTensor('small', [count - 1], randomFloats(2, count - 1)),
      ],
    });
    const model = openModel(writeModel(temporaryFolder(), proto));
    assert.equal(externalEntry(initializer(model, 'large'), 'location'), 'model.onnx');
    assert.equal(externalEntry(initializer(model, 'small'), 'location'), undefined);
    assert.deepEqual(readFloats(model, initializer(model, 'small')), randomFloats(2, count - 1));
    assert.deepEqual(readFloats(model, initializer(model, 'large')), randomFloats(1, count));
  });

  it('overrides a default location that the file states', async () => {
    const folder = temporaryFolder();
    const proto = oneLayer();
    // onnx.load() of a model with external data leaves an explicit 0 behind.
    for (const tensor of proto.graph?.initializer ?? []) tensor.dataLocation = 0;
    const path = writeModel(folder, proto);
    const rewritten = join(folder, 'rewritten.onnx');
    writeFileSync(rewritten, encodeModel(openModel(path)));
    assert.deepEqual(await run(rewritten), await run(path));
  });

  it('leaves external data of the model as it is, offsets included', async () => {
    const folder = temporaryFolder();
    const plain = writeModel(folder, oneLayer(), 'plain.onnx');
    const proto = oneLayer();
    const chunks: Uint8Array[] = [new Uint8Array(4096)];
    let offset = 4096;
    for (const tensor of proto.graph?.initializer ?? []) {
      if (tensor.rawData.length < EXTERNAL_FROM_BYTES) continue;
      const entries = [
        ['location', 'weights.bin'],
        ['offset', String(offset)],
        ['length', String(tensor.rawData.length)],
      ];
      tensor.externalData = entries.map(([key, value]) =>
        create(StringStringEntryProtoSchema, { key, value }),
      );
      tensor.dataLocation = 1;
      chunks.push(tensor.rawData);
      offset += tensor.rawData.length;
      tensor.rawData = new Uint8Array();
    }
    writeFileSync(join(folder, 'weights.bin'), Buffer.concat(chunks));
    const path = writeModel(folder, proto, 'external.onnx');
    const model = openModel(path);
    assert.deepEqual(weightFiles(model), ['weights.bin']);
    const weight = at(model.graph.initializer);
    assert.equal(externalEntry(weight, 'offset'), '4096');
    assert.deepEqual(
      readFloats(model, weight),
      readFloats(openModel(plain), at(openModel(plain).graph.initializer)),
    );
    const rewritten = join(folder, 'rewritten.onnx');
    writeFileSync(rewritten, encodeModel(model));
    assert.deepEqual(await run(rewritten), await run(plain));
  });

  it('reads an external tensor without a length by its shape', () => {
    const folder = temporaryFolder();
    const values = randomFloats(4, 8);
    writeFileSync(join(folder, 'weights.bin'), new Uint8Array(randomFloats(4, 64).buffer));
    const proto = oneLayer();
    proto.graph?.initializer.push(
      create(TensorProtoSchema, {
        name: 'open-ended',
        dims: [8n],
        dataType: ELEM.FLOAT,
        dataLocation: 1,
        externalData: [{ key: 'location', value: 'weights.bin' }],
      }),
    );
    const model = openModel(writeModel(folder, proto));
    assert.deepEqual(readFloats(model, initializer(model, 'open-ended')), values);
  });

  it('finds the weight files of inner graphs too', () => {
    const proto = oneLayer();
    const external = create(TensorProtoSchema, {
      name: 'inner',
      externalData: [{ key: 'location', value: 'inner.bin' }],
    });
    const branch = create(GraphProtoSchema, { name: 'branch', initializer: [external] });
    proto.graph?.node[0]?.attribute.push(create(AttributeProtoSchema, { name: 'body', g: branch }));
    const model = openModel(writeModel(temporaryFolder(), proto));
    assert.deepEqual(weightFiles(model).sort(), ['inner.bin', 'model.onnx']);
  });

  it('reads float tensors of every form', () => {
    const proto = oneLayer();
    const values = [1, -0.5, 0.25, 65504];
    const half = Uint16Array.of(0x3c00, 0xb800, 0x3400, 0x7bff);
    const brain = Uint16Array.of(0x3f80, 0xbf00, 0x3e80, 0x4780);
    const bytes = (array: Uint16Array | Float64Array): Uint8Array => new Uint8Array(array.buffer);
    const tensor = (name: string, dataType: number, rest: object): TensorProto =>
      create(TensorProtoSchema, { name, dims: [4n], dataType, ...rest });
    proto.graph?.initializer.push(
      tensor('float_data', ELEM.FLOAT, { floatData: values }),
      tensor('double_data', ELEM.DOUBLE, { doubleData: values }),
      tensor('double_raw', ELEM.DOUBLE, { rawData: bytes(Float64Array.from(values)) }),
      tensor('half_raw', ELEM.FLOAT16, { rawData: bytes(half) }),
      tensor('half_data', ELEM.FLOAT16, { int32Data: [...half] }),
      tensor('brain_raw', ELEM.BFLOAT16, { rawData: bytes(brain) }),
      tensor('short', ELEM.FLOAT, { rawData: new Uint8Array(12) }),
      int64Tensor('int64', [1], [1]),
    );
    const model = openModel(writeModel(temporaryFolder(), proto));
    for (const name of ['float_data', 'double_data', 'double_raw', 'half_raw', 'half_data']) {
      assert.deepEqual([...(readFloats(model, initializer(model, name)) ?? [])], values, name);
    }
    const brains = readFloats(model, initializer(model, 'brain_raw'));
    assert.deepEqual([...(brains ?? [])], [1, -0.5, 0.25, 65536]);
    assert.equal(readFloats(model, initializer(model, 'int64')), null);
    assert.match(
      refusal(() => readFloats(model, initializer(model, 'short')), 'short.onnx'),
      /'short'/,
    );
  });
});

describe('the codec keeps what it does not know', () => {
  const F = FIELD;
  const unknown = [varintField(90, 300), fixed32Field(91, 7), fixed64Field(92, 8n), bytesField(93, 'kept')];
  const raw = new Uint8Array(randomFloats(1, 64).buffer);
  const tensor = (extra: readonly Buffer[]): Buffer =>
    bytesField(
      F.graph.initializer,
      varintField(F.tensor.dims, 64),
      varintField(F.tensor.dataType, ELEM.FLOAT),
      bytesField(F.tensor.name, 'w'),
      bytesField(F.tensor.rawData, raw),
      ...extra,
    );
  const node = (extra: readonly Buffer[]): Buffer =>
    bytesField(
      F.graph.node,
      bytesField(F.node.input, 'x'),
      bytesField(F.node.output, 'y'),
      bytesField(F.node.opType, 'Identity'),
      ...extra,
    );

  it('in model, graph, node and tensor', () => {
    const folder = temporaryFolder();
    const path = join(folder, 'model.onnx');
    const bytes = Buffer.concat([
      varintField(F.model.irVersion, 8),
      bytesField(F.model.graph, node(unknown), tensor(unknown), ...unknown),
      ...unknown,
    ]);
    writeFileSync(path, bytes);
    const encoded = Buffer.from(encodeModel(copyModel(openModel(path))));
    const block = Buffer.concat(unknown);
    let found = 0;
    for (let at = encoded.indexOf(block); at >= 0; at = encoded.indexOf(block, at + 1)) found += 1;
    assert.equal(found, 4);
    assert.ok(encoded.indexOf(Buffer.from(raw)) < 0, 'the weight itself must not be copied');
  });

  it('survives reading with its own readers: skeleton of a skeleton is the same', () => {
    const folder = temporaryFolder();
    const path = writeModel(folder, oneLayer());
    const once = readSkeleton(path, 'model.onnx');
    writeFileSync(join(folder, 'once.onnx'), once);
    assert.deepEqual(Buffer.from(readSkeleton(join(folder, 'once.onnx'), 'other')), Buffer.from(once));
  });

  it('copies int64 varints of any sign', () => {
    const path = join(temporaryFolder(), 'model.onnx');
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        writeFileSync(
          path,
          Buffer.concat([varintField(F.model.irVersion, value), bytesField(F.model.graph, node([]))]),
        );
        const model = openModel(path);
        assert.equal(model.proto.irVersion, value);
        writeFileSync(path, encodeModel(model));
        assert.equal(openModel(path).proto.irVersion, value);
      }),
      { numRuns: 50, examples: [[-1n], [-(2n ** 63n)], [0n]] },
    );
  });
});

describe('the codec refuses', () => {
  const folder = temporaryFolder();
  const refused = (name: string, bytes: Uint8Array, message: RegExp): void => {
    it(name, () => {
      const path = join(folder, `${name.replaceAll(' ', '-')}.onnx`);
      writeFileSync(path, bytes);
      assert.match(
        refusal(() => openModel(path), folder),
        message,
      );
    });
  };

  it('a missing file', () => {
    assert.match(
      refusal(() => openModel(join(folder, 'nowhere.onnx')), folder),
      /cannot be opened/,
    );
  });

  it('a folder', () => {
    const path = join(folder, 'folder.onnx');
    mkdirSync(path);
    assert.match(
      refusal(() => openModel(path), folder),
      /cannot be read/,
    );
  });

  it('a file cut anywhere', () => {
    const whole = readFileSync(writeModel(temporaryFolder(), oneLayer()));
    const path = join(folder, 'cut.onnx');
    // Behind the graph only the opset import follows: a cut at its very start is a model without it.
    const graphEnd = whole.lastIndexOf(
      bytesField(FIELD.model.opsetImport, varintField(FIELD.opset.version, 17)),
    );
    for (let length = 1; length < whole.length; length += 7) {
      if (length === graphEnd) continue;
      writeFileSync(path, whole.subarray(0, length));
      refusal(() => openModel(path), folder);
    }
  });

  it('noise', () => {
    const path = join(folder, 'noise.onnx');
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), (bytes) => {
        writeFileSync(path, bytes);
        refusal(() => openModel(path), folder);
      }),
      { numRuns: 100, seed: 1 },
    );
  });

  const graph = FIELD.model.graph;
  refused('an empty file', new Uint8Array(), /no graph/);
  refused('text', Buffer.from('{"model": "this is JSON, not a protobuf message at all"}'), /./);
  refused('a graph without nodes', bytesField(graph, bytesField(FIELD.graph.name, 'empty')), /no graph/);
  refused('an endless varint', Buffer.alloc(64, 0xff), /endless varint/);
  refused('an unknown wire type', varint(8 * 3 + 7), /unknown wire type/);
  refused(
    'a tensor longer than its graph',
    Buffer.concat([
      varint(graph * 8 + 2),
      varint(4),
      bytesField(FIELD.graph.initializer, bytesField(FIELD.tensor.name, 'a-long-name-beyond-the-graph')),
    ]),
    /longer than its message/,
  );
  refused(
    'a weight longer than its tensor',
    bytesField(
      graph,
      Buffer.concat([varint(FIELD.graph.initializer * 8 + 2), varint(6)]),
      bytesField(FIELD.tensor.rawData, new Uint8Array(EXTERNAL_FROM_BYTES)),
    ),
    /longer than its message/,
  );

  it('weights that are not there', () => {
    const proto = oneLayer();
    const model = openModel(writeModel(temporaryFolder(), proto));
    const tensor = at(model.graph.initializer);
    const elsewhere = { ...model, folder: join(folder, 'no-such-folder') };
    assert.match(
      refusal(() => tensorBytes(elsewhere, tensor), folder),
      /weights of 'onnx::MatMul_net\.fc'/,
    );
  });
});

describe('the codec reads models beyond 2 GiB', () => {
  const HOLE = 3 * 2 ** 30;

  it('without reading their weights', (t) => {
    const folder = temporaryFolder();
    const path = join(folder, 'model.onnx');
    const F = FIELD;
    const count = HOLE / 4;
    const small = randomFloats(5, 64);
    const before = Buffer.concat([
      varintField(F.tensor.dims, count),
      varintField(F.tensor.dataType, ELEM.FLOAT),
      bytesField(F.tensor.name, 'huge'),
      varint(F.tensor.rawData * 8 + 2),
      varint(HOLE),
    ]);
    const after = Buffer.concat([
      bytesField(
        F.graph.initializer,
        varintField(F.tensor.dims, 64),
        varintField(F.tensor.dataType, ELEM.FLOAT),
        bytesField(F.tensor.name, 'behind'),
        bytesField(F.tensor.rawData, new Uint8Array(small.buffer)),
      ),
      bytesField(
        F.graph.node,
        bytesField(F.node.input, 'x'),
        bytesField(F.node.output, 'y'),
        bytesField(F.node.opType, 'Identity'),
      ),
    ]);
    const tensorHead = Buffer.concat([varint(F.graph.initializer * 8 + 2), varint(before.length + HOLE)]);
    const head = Buffer.concat([
      varint(F.model.graph * 8 + 2),
      varint(tensorHead.length + before.length + HOLE + after.length),
      tensorHead,
      before,
    ]);
    const fd = openSync(path, 'w');
    try {
      writeSync(fd, head);
      ftruncateSync(fd, head.length + HOLE);
      writeSync(fd, after, 0, after.length, head.length + HOLE);
    } catch (error) {
      t.skip(`no room for a sparse file: ${(error as Error).message}`);
      return;
    } finally {
      closeSync(fd);
    }
    if (statSync(path).blocks * 512 > HOLE / 2) {
      t.skip('the file system does not keep holes');
      return;
    }
    const skeleton = readSkeleton(path, 'model.onnx');
    assert.ok(skeleton.length < 1000);
    const model = openModel(path);
    const huge = initializer(model, 'huge');
    assert.equal(externalEntry(huge, 'offset'), String(head.length));
    assert.equal(externalEntry(huge, 'length'), String(HOLE));
    const behind = initializer(model, 'behind');
    assert.ok(Number(externalEntry(behind, 'offset')) > HOLE);
    assert.deepEqual(readFloats(model, behind), small);
    assert.equal(model.graph.node.length, 1);
  });
});
