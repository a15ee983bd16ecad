/** Replaced parameters: in every form a graph computes what one built with them would, and nothing else changes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { AttributeProtoSchema, AttributeType, GraphProtoSchema } from '#dist/onnx/gen/onnx_pb.js';
import type { AttributeProto, GraphProto } from '#dist/onnx/gen/onnx_pb.js';
import { encodeModel } from '#dist/onnx/model.js';
import type { OnnxModel } from '#dist/onnx/model.js';
import { findModules } from '#dist/onnx/modules.js';
import type { GraphModule } from '#dist/onnx/modules.js';
import { replaceParameters } from '#dist/onnx/passes/replace-parameters.js';
import type { NewParameters } from '#dist/onnx/passes/replace-parameters.js';
import { refusal } from '../adapters/support.js';
import { at } from '../support/at.js';
import {
  ELEM,
  floatTensor,
  int64Tensor,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
} from '../support/tiny-models.js';
import { D, N, asModel, feedOf } from './form-parts.js';
import type { Form, Parameters } from './form-parts.js';
import { FORMS } from './parameter-forms.js';
import { runOnnx, worstError } from './run-onnx.js';

function parameters(form: Form, seed: number): Parameters {
  const rows = form.rows ?? N;
  return { weight: randomFloats(seed, rows * D), bias: randomFloats(seed + 1, rows) };
}

function moduleOf(model: OnnxModel, name: string): GraphModule {
  const module = findModules(model).find((candidate) => candidate.name === name);
  assert.ok(module, `no module '${name}'`);
  return module;
}

/** The part of `p` that a form can take, as the pass is given it. */
function given(form: Form, p: Parameters): NewParameters {
  return Object.fromEntries(form.brings.map((key) => [key, p[key]]));
}

function replaced(form: Form, base: Parameters, ...changes: readonly Parameters[]): OnnxModel {
  const model = asModel(form.build(base));
  for (const change of changes)
    replaceParameters(model, [[moduleOf(model, form.module), given(form, change)]]);
  return model;
}

/** Names that a graph reads without anybody defining them, and initializers that nobody reads. */
function looseEnds({ graph }: OnnxModel): { undefined: string[]; unread: string[] } {
  const read = new Set([
    ...graph.node.flatMap((node) => node.input),
    ...graph.output.map(({ name }) => name),
  ]);
  const defined = new Set([
    ...graph.node.flatMap((node) => node.output),
    ...graph.input.map(({ name }) => name),
    ...graph.initializer.map(({ name }) => name),
  ]);
  return {
    undefined: [...read].filter((name) => name !== '' && !defined.has(name)),
    unread: graph.initializer.map(({ name }) => name).filter((name) => !read.has(name)),
  };
}

describe('replaced parameters', () => {
  for (const form of FORMS) {
    test(`${form.about}: ${form.brings.join(' and ')}`, async () => {
      const base = parameters(form, 1);
      const next = parameters(form, 11);
      const own = { ...base, ...given(form, next) };
      const feeds = [{ x: feedOf(form) }];
      const before = at(await runOnnx(encodeModel(asModel(form.build(base))), feeds));
      const wanted = at(await runOnnx(encodeModel(asModel(form.build(base, own))), feeds));
      // Twice in a row: the second time over what the first one left.
      const other = parameters(form, 31);
      for (const model of [replaced(form, base, next), replaced(form, base, other, next)]) {
        const got = await runOnnx(encodeModel(model), feeds);
        assert.deepEqual([...at(got).keys()], [...wanted.keys()]);
        for (const [name, { shape, data }] of wanted) {
          const result = at(got).get(name);
          assert.ok(result);
          assert.deepEqual(result.shape, shape);
          const error = worstError(result.data, data);
          assert.ok(error <= (form.tolerance ?? 1e-5), `${name} is off by ${error}`);
        }
        assert.deepEqual(looseEnds(model), { undefined: [], unread: [] });
        const names = model.graph.initializer.map((tensor) => tensor.name);
        assert.equal(new Set(names).size, names.length);
      }
      assert.ok(worstError(before.get('y')?.data ?? [], wanted.get('y')?.data ?? []) > 0.01);
    });
  }

  test('a module keeps its name: what was merged can be found again', () => {
    for (const form of FORMS) {
      const model = replaced(form, parameters(form, 1), parameters(form, 2));
      assert.ok(moduleOf(model, form.module), form.about);
    }
  });

  test('inputs that were weights are not asked for', async () => {
    const form = FORMS.find(({ about }) => about === 'parameters listed as inputs');
    assert.ok(form);
    const model = replaced(form, parameters(form, 1), parameters(form, 2));
    assert.deepEqual(
      model.graph.input.map(({ name }) => name),
      ['x'],
    );
    await runOnnx(encodeModel(model), [{ x: feedOf(form) }]);
  });

  test('no Transpose or Cast stays behind for a weight that is gone', () => {
    const kinds = (about: string): string[] => {
      const form = FORMS.find((candidate) => candidate.about === about);
      assert.ok(form);
      const model = replaced(form, parameters(form, 1), parameters(form, 2));
      return model.graph.node.map(({ opType }) => opType).sort();
    };
    assert.deepEqual(kinds('a head tied to the embedding'), ['Gather', 'MatMul']);
    assert.deepEqual(kinds('float16 parameters widened by Cast'), ['Add', 'MatMul']);
    assert.deepEqual(kinds('parameters in Constant nodes'), ['Add', 'MatMul']);
  });

  test('a head of another width says so in the output and in what is known of its value', () => {
    const form = at(FORMS);
    const model = asModel(form.build(parameters(form, 1)));
    const stale = makeValueInfo('p', ELEM.FLOAT, [2, 3, N]);
    model.graph.valueInfo.push(stale);
    const [weight, bias] = [randomFloats(3, 7 * D), randomFloats(4, 7)];
    replaceParameters(model, [[moduleOf(model, 'm'), { weight, bias }]]);
    for (const info of [at(model.graph.output), stale])
      assert.equal(info.type?.tensorType?.shape?.dim.at(-1)?.dimValue, 7n);
  });

  test('a convolution or a table does not touch the widths of its result', () => {
    for (const about of ['Conv', 'an embedding tied to the head']) {
      const form = FORMS.find((candidate) => candidate.about === about);
      assert.ok(form);
      const dims = (model: OnnxModel): unknown => at(model.graph.output).type?.tensorType?.shape?.dim;
      const model = asModel(form.build(parameters(form, 1)));
      const before = structuredClone(dims(model));
      replaceParameters(model, [[moduleOf(model, form.module), { weight: parameters(form, 2).weight }]]);
      assert.deepEqual(structuredClone(dims(model)), before);
    }
  });

  test('a weight that a branch of an If reads stays for it', async () => {
    const branch = (value: string): GraphProto =>
      create(GraphProtoSchema, {
        name: value,
        output: [makeValueInfo(`${value}_out`, ELEM.FLOAT, [D, N])],
        node: [makeNode('Identity', [value], [`${value}_out`], { name: value })],
      });
    const graphAttribute = (name: string, value: string): AttributeProto =>
      create(AttributeProtoSchema, { name, g: branch(value), type: AttributeType.GRAPH });
    const weight = randomFloats(1, D * N);
    const proto = makeModel({
      inputs: [makeValueInfo('x', ELEM.FLOAT, [2, D]), makeValueInfo('c', ELEM.BOOL, [])],
      outputs: [makeValueInfo('y', ELEM.FLOAT, [2, N]), makeValueInfo('k', ELEM.FLOAT, [D, N])],
      nodes: [
        makeNode('MatMul', ['x', 'w'], ['y'], { name: '/m/MatMul' }),
        makeNode('If', ['c'], ['k'], {
          name: 'If',
          attributes: [graphAttribute('then_branch', 'w'), graphAttribute('else_branch', 'v')],
        }),
      ],
      initializers: [floatTensor('w', [D, N], weight), floatTensor('v', [D, N], randomFloats(2, D * N))],
    });
    const model = asModel(proto);
    replaceParameters(model, [[moduleOf(model, 'm'), { weight: new Float32Array(D * N) }]]);
    const x = { datatype: 'FP32', shape: [2, D], data: Array.from({ length: 2 * D }, () => 1) };
    const [result] = await runOnnx(encodeModel(model), [
      { x, c: { datatype: 'BOOL', shape: [], data: [1] } },
    ]);
    assert.deepEqual(result?.get('k')?.data, Array.from(weight));
    assert.deepEqual(
      result.get('y')?.data,
      Array.from({ length: 2 * N }, () => 0),
    );
  });
});

describe('parameters that cannot be replaced', () => {
  test('a quantised weight, by the name of its module', () => {
    const form = FORMS.find(({ about }) => about === 'the bias of an int8 product');
    assert.ok(form);
    const model = asModel(form.build(parameters(form, 1)));
    const module = moduleOf(model, 'm');
    assert.throws(
      () => {
        replaceParameters(model, [[module, { weight: randomFloats(1, N * D) }]]);
      },
      refusal('BASE_UNSUPPORTED', "'m'", 'quantised'),
    );
  });

  test('a dequantised weight', () => {
    const quantised = int64Tensor('wq', [D, N], []);
    quantised.dataType = ELEM.INT8;
    quantised.rawData = new Uint8Array(D * N);
    const model = asModel(
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, [2, D])],
        outputs: [makeValueInfo('y', ELEM.FLOAT, [2, N])],
        nodes: [
          makeNode('DequantizeLinear', ['wq', 's'], ['w'], { name: '/m/DequantizeLinear' }),
          makeNode('MatMul', ['x', 'w'], ['y'], { name: '/m/MatMul' }),
        ],
        initializers: [quantised, floatTensor('s', [], Float32Array.of(0.1))],
      }),
    );
    assert.throws(
      () => {
        replaceParameters(model, [[moduleOf(model, 'm'), { weight: randomFloats(1, N * D) }]]);
      },
      refusal('BASE_UNSUPPORTED', "'m'", 'quantised'),
    );
  });

  test('values beyond float16 in a float16 graph', () => {
    const form = FORMS.find(({ about }) => about === 'a float16 graph');
    assert.ok(form);
    for (const key of ['weight', 'bias'] as const) {
      const model = asModel(form.build(parameters(form, 1)));
      const huge = parameters(form, 1)[key].map((value, i) => (i === 3 ? 70_000 : value));
      assert.throws(
        () => {
          replaceParameters(model, [[moduleOf(model, 'm'), { [key]: huge }]]);
        },
        refusal('ADAPTER_NOT_FINITE', "'m'", 'float16'),
      );
    }
  });
});
