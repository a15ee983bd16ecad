/** Models whose rows cannot simply be mixed, and inputs other than tokens: answers stay right. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { BatchItem, Tensor } from '#dist/types.js';
import { linearSite, relativeError } from '../reference/linear-site.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { adapter, moduleOperands } from '../support/tiny-adapters.js';
import {
  ELEM,
  floatTensor,
  int64Tensor,
  intAttributeOf,
  intsAttribute,
  linear,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
  writeModel,
} from '../support/tiny-models.js';
import type { LinearOptions, LinearParts, ModelProto } from '../support/tiny-models.js';
import { floats, modulesOf, start } from './harness.js';
import type { Started } from './harness.js';

const D = 12;
const TOLERANCE = 1e-5;

function layer(
  module: string,
  input: string,
  output: string,
  seed: number,
  form: LinearOptions['form'] = 'MatMulAdd',
): LinearParts {
  return linear({ module, input, output, inFeatures: D, outFeatures: D, form, seed });
}

function size(module: string): { module: string; inFeatures: number; outFeatures: number } {
  return { module, inFeatures: D, outFeatures: D };
}

async function open(proto: ModelProto): Promise<Started> {
  const folder = temporaryFolder();
  return start(writeModel(folder, proto), `${folder}/cache`);
}

function output(outputs: ReadonlyMap<string, Tensor>, name: string): Float32Array {
  const data = outputs.get(name)?.data;
  assert.ok(data instanceof Float32Array);
  return data;
}

function assertClose(got: Float32Array, want: Float64Array): void {
  const error = relativeError(got, want);
  assert.ok(error <= TOLERANCE, `off by ${error}`);
}

const ADAPTERS = [
  adapter('a@1', [moduleOperands(size('net.fc'), { rotation: 4, scale: true }, 1)]),
  adapter('b@1', [moduleOperands(size('net.fc'), { rotation: 6, scale: true }, 2)]),
  adapter('c@1', [moduleOperands(size('net.other'), { rotation: 2, scale: true }, 3)]),
];
const operandsOf = (key: string | null, module: string): Parameters<typeof linearSite>[2] =>
  modulesOf(ADAPTERS.find((a) => a.key === key)).find((own) => own.module === module);

describe('a model with a fixed batch of one', () => {
  it('is not stackable, and serves every adapter one item at a time', async () => {
    const fc = layer('net.fc', 'x', 'y', 1);
    const started = await open(
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, [1, 'sequence', D])],
        outputs: [makeValueInfo('y', ELEM.FLOAT, [1, 'sequence', D])],
        nodes: [...fc.nodes],
        initializers: [...fc.initializers],
      }),
    );
    const { executor } = started;
    assert.equal(executor.opened.probeError, null);
    assert.deepEqual(executor.model.layout, { stackable: false, paddedAxis: null });
    await started.attach(...ADAPTERS.slice(0, 2));
    const keys = [null, 'a@1', 'b@1', 'a@1', null];
    const xs = keys.map((_, i) => randomFloats(20 + i, (2 + i) * D));
    const items = keys.map((adapterKey, i): BatchItem => ({
      adapterKey,
      rows: 1,
      inputs: new Map([['x', floats([1, 2 + i, D], at(xs, i))]]),
    }));
    const result = await executor.run({ items });
    for (const [i, key] of keys.entries()) {
      assert.deepEqual(at(result.outputs, i).get('y')?.shape, [1, 2 + i, D]);
      assertClose(
        output(at(result.outputs, i), 'y'),
        linearSite(at(xs, i), fc.layer, operandsOf(key, 'net.fc')),
      );
    }
  });

  it('of three rows, too', async () => {
    const fc = layer('net.fc', 'x', 'y', 1);
    const started = await open(
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, [3, D])],
        outputs: [makeValueInfo('y', ELEM.FLOAT, [3, D])],
        nodes: [...fc.nodes],
        initializers: [...fc.initializers],
      }),
    );
    assert.equal(started.executor.opened.probeError, null);
    assert.equal(started.executor.model.layout.stackable, false);
    await started.attach(at(ADAPTERS));
    const x = randomFloats(4, 3 * D);
    const item = { adapterKey: 'a@1', rows: 3, inputs: new Map([['x', floats([3, D], x)]]) };
    const { outputs } = await started.executor.run({ items: [item] });
    assertClose(output(at(outputs), 'y'), linearSite(x, fc.layer, operandsOf('a@1', 'net.fc')));
  });
});

describe('an output that mixes rows', () => {
  it('as CLIP’s logits_per_image: not stackable, one item at a time', async () => {
    const image = layer('net.fc', 'image', 'image_features', 1, 'MatMul');
    const text = layer('net.other', 'text', 'text_features', 2, 'MatMul');
    const started = await open(
      makeModel({
        inputs: [
          makeValueInfo('image', ELEM.FLOAT, ['images', D]),
          makeValueInfo('text', ELEM.FLOAT, ['texts', D]),
        ],
        outputs: [makeValueInfo('logits_per_image', ELEM.FLOAT, ['images', 'texts'])],
        nodes: [
          ...image.nodes,
          ...text.nodes,
          makeNode('Transpose', ['text_features'], ['turned'], {
            name: '/Transpose',
            attributes: [intsAttribute('perm', [1, 0])],
          }),
          makeNode('MatMul', ['image_features', 'turned'], ['logits_per_image'], { name: '/MatMul' }),
        ],
        initializers: [...image.initializers, ...text.initializers],
      }),
    );
    assert.equal(started.executor.model.layout.stackable, false);
    await started.attach(...ADAPTERS);
    const keys = ['a@1', 'c@1', null];
    const inputs = keys.map((_, i) => [randomFloats(30 + i, 2 * D), randomFloats(40 + i, 2 * D)] as const);
    const items = keys.map((adapterKey, i): BatchItem => ({
      adapterKey,
      rows: 2,
      inputs: new Map([
        ['image', floats([2, D], at(inputs, i)[0])],
        ['text', floats([2, D], at(inputs, i)[1])],
      ]),
    }));
    const { outputs } = await started.executor.run({ items });
    for (const [i, key] of keys.entries()) {
      const images = linearSite(at(inputs, i)[0], image.layer, operandsOf(key, 'net.fc'));
      const texts = linearSite(at(inputs, i)[1], text.layer, operandsOf(key, 'net.other'));
      const want = linearSite(images, { inFeatures: D, outFeatures: 2, weight: texts, bias: null });
      assertClose(output(at(outputs, i), 'logits_per_image'), want);
    }
  });
});

describe('a table of batch dimension 1 used by a module that also sees rows', () => {
  /** y = fc(x) + mean over t of fc(table)[t] + other(x), the table [1, 4, d] a function of nothing in the batch. */
  async function tableModel(
    constantTable: boolean,
  ): Promise<{ started: Started; fc: LinearParts; other: LinearParts; table: Float32Array }> {
    const fc = layer('net.fc', 'x', 'from_x', 1, 'MatMul');
    const other = layer('net.other', 'x', 'from_other', 2);
    const table = randomFloats(3, 4 * D);
    const weight = at(fc.initializers).name;
    const nodes = [
      ...fc.nodes,
      ...other.nodes,
      // A length taken from the input keeps ONNX Runtime from folding the table away.
      ...(constantTable
        ? [makeNode('Identity', ['table'], ['rows'], { name: '/Identity' })]
        : [
            makeNode('Shape', ['x'], ['shape'], { name: '/Shape' }),
            makeNode('Gather', ['shape', 'last'], ['width'], { name: '/Gather' }),
            makeNode('Slice', ['table', 'zero', 'width', 'two'], ['rows'], { name: '/Slice' }),
          ]),
      makeNode('MatMul', ['rows', weight], ['from_table'], { name: '/net/fc_1/MatMul' }),
      makeNode('ReduceMean', ['from_table'], ['mean'], {
        name: '/ReduceMean',
        attributes: [intsAttribute('axes', [1]), intAttributeOf('keepdims', 1)],
      }),
      makeNode('Add', ['from_x', 'mean'], ['sum'], { name: '/Add' }),
      makeNode('Add', ['sum', 'from_other'], ['y'], { name: '/Add_1' }),
    ];
    const dims = ['batch', 'sequence', D];
    const started = await open(
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, dims)],
        outputs: [makeValueInfo('y', ELEM.FLOAT, dims)],
        nodes,
        initializers: [
          ...fc.initializers,
          ...other.initializers,
          floatTensor('table', [1, 4, D], table),
          int64Tensor('last', [1], [2]),
          int64Tensor('zero', [1], [0]),
          int64Tensor('two', [1], [2]),
        ],
      }),
    );
    return { started, fc, other, table };
  }

  for (const constantTable of [false, true]) {
    it(`splits by adapter, and other adapters still share a batch (${constantTable ? 'constant' : 'computed'} table)`, async () => {
      const { started, fc, other, table } = await tableModel(constantTable);
      const { executor } = started;
      assert.deepEqual(executor.opened.lost, []);
      assert.deepEqual(executor.opened.inseparable, ['net.fc']);
      assert.equal(executor.model.layout.stackable, true);
      const more = adapter('d@1', [moduleOperands(size('net.other'), { rotation: 3, bias: true }, 5)]);
      await started.attach(...ADAPTERS, more);
      const keys = ['a@1', null, 'c@1', 'b@1', 'a@1', 'd@1', 'c@1'];
      for (const batch of [keys, ['c@1', 'd@1', null], ['a@1', 'a@1'], ['b@1', null]]) {
        const xs = batch.map((_, i) => randomFloats(50 + i, 2 * D));
        const items = batch.map((adapterKey, i): BatchItem => ({
          adapterKey,
          rows: 1,
          inputs: new Map([['x', floats([1, 2, D], at(xs, i))]]),
        }));
        const { outputs } = await executor.run({ items });
        for (const [i, key] of batch.entries()) {
          const own = key === 'd@1' ? more.modules[0] : operandsOf(key, 'net.other');
          const fromX = linearSite(at(xs, i), fc.layer, operandsOf(key, 'net.fc'));
          const fromTable = linearSite(table, fc.layer, operandsOf(key, 'net.fc'));
          const fromOther = linearSite(at(xs, i), other.layer, own);
          const want = fromX.map((value, at) => {
            let mean = 0;
            for (let row = 0; row < 4; row++) mean += (fromTable[row * D + (at % D)] as number) / 4;
            return value + mean + (fromOther[at] as number);
          });
          assertClose(output(at(outputs, i), 'y'), want);
        }
      }
    });
  }
});

describe('rows in the middle', () => {
  it('a sequence-first model is not stackable, and is right', async () => {
    const fc = layer('net.fc', 'x', 'y', 1, 'MatMul');
    const started = await open(
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, [3, 'batch', D])],
        outputs: [makeValueInfo('y', ELEM.FLOAT, [3, 'batch', D])],
        nodes: [...fc.nodes],
        initializers: [...fc.initializers],
      }),
    );
    assert.equal(started.executor.model.layout.stackable, false);
    await started.attach(at(ADAPTERS));
    const x = randomFloats(5, 6 * D);
    const item = { adapterKey: 'a@1', rows: 1, inputs: new Map([['x', floats([3, 2, D], x)]]) };
    const { outputs } = await started.executor.run({ items: [item] });
    assertClose(output(at(outputs), 'y'), linearSite(x, fc.layer, operandsOf('a@1', 'net.fc')));
  });
});

describe('texts', () => {
  it('go in and come out beside numbers', async () => {
    const fc = layer('net.fc', 'x', 'y', 1);
    const started = await open(
      makeModel({
        inputs: [
          makeValueInfo('x', ELEM.FLOAT, ['batch', D]),
          makeValueInfo('label', ELEM.STRING, ['batch', 1]),
        ],
        outputs: [
          makeValueInfo('y', ELEM.FLOAT, ['batch', D]),
          makeValueInfo('echo', ELEM.STRING, ['batch', 1]),
        ],
        nodes: [...fc.nodes, makeNode('Identity', ['label'], ['echo'], { name: '/Identity' })],
        initializers: [...fc.initializers],
      }),
    );
    await started.attach(at(ADAPTERS));
    const items = ['ä', 'b'].map((word, i): BatchItem => ({
      adapterKey: i === 0 ? 'a@1' : null,
      rows: 1,
      inputs: new Map<string, Tensor>([
        ['x', floats([1, D], randomFloats(60 + i, D))],
        ['label', { datatype: 'BYTES', shape: [1, 1], data: [word] }],
      ]),
    }));
    const { outputs } = await started.executor.run({ items });
    assert.deepEqual(
      outputs.map((own) => own.get('echo')),
      ['ä', 'b'].map((word) => ({ datatype: 'BYTES', shape: [1, 1], data: [word] })),
    );
    assertClose(
      output(at(outputs), 'y'),
      linearSite(randomFloats(60, D), fc.layer, operandsOf('a@1', 'net.fc')),
    );
  });
});
