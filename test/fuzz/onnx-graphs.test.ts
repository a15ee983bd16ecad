/** Graphs that are well-formed protobuf and lie: shapes, types, names and references that do not fit together. */
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { TensorProto } from '#dist/onnx/gen/onnx_pb.js';
import { locateSites } from '#dist/onnx/locate.js';
import { copyModel, encodeModel, openModel, weightFiles } from '#dist/onnx/model.js';
import type { OnnxModel } from '#dist/onnx/model.js';
import { findModules } from '#dist/onnx/modules.js';
import { replaceParameters } from '#dist/onnx/passes/replace-parameters.js';
import { ROOT } from '../e2e/server.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { replaceFile } from './adapters.js';
import { assertVaried, closed, noOutcomes } from './outcome.js';

const root = temporaryFolder();
const PATH = join(root, 'damaged.onnx');

const FILES = [
  'bert_seqcls/base_nofold.onnx',
  'bert_seqcls/base_dynamo.onnx',
  'llama_tied/base_nofold.onnx',
  'unet_block/base.onnx',
  'bert_int8_dynamic/base.onnx',
];

const MODELS: readonly OnnxModel[] = FILES.map((file, i) => {
  const name = `${i}-${basename(file)}`;
  copyFileSync(join(ROOT, 'test/golden', file), join(root, name));
  return openModel(join(root, name));
});

type Lie = (model: OnnxModel) => void;

const any = fc.noBias(fc.nat(2 ** 30));
const SIZES = [0n, 1n, -1n, 2n, 7n, 2n ** 20n, 2n ** 31n, 2n ** 40n, 2n ** 62n, -(2n ** 63n)];
const OPERATORS = [
  'MatMul',
  'Gemm',
  'Conv',
  'Gather',
  'Identity',
  'Cast',
  'Transpose',
  'Add',
  'Constant',
  'If',
];
const MORE = [
  'LayerNormalization',
  'DequantizeLinear',
  'MatMulNBits',
  'MatMulInteger',
  'FusedGemm',
  'BiasGelu',
  '',
];
const PLACES: readonly (readonly [key: string, value: string])[] = [
  ['location', '../../secret'],
  ['location', 'nowhere'],
  ['offset', '1099511627776'],
  ['offset', '-8'],
  ['length', '1099511627776'],
  ['length', 'many'],
  ['length', '3'],
];

/** Something of a list, or nothing where it is empty. */
function some<T>(items: readonly T[], which: number): T | undefined {
  return items[which % Math.max(1, items.length)];
}

function onTensor(change: (tensor: TensorProto, model: OnnxModel) => void): fc.Arbitrary<Lie> {
  return any.map((which) => (model) => {
    const tensor = some(model.graph.initializer, which);
    if (tensor) change(tensor, model);
  });
}

/** Names of values and tensors of a graph, by any number. */
function nameIn({ graph }: OnnxModel, which: number): string {
  const names = [
    ...graph.initializer.map(({ name }) => name),
    ...graph.node.flatMap((node) => node.output),
    '',
    'nothing',
  ];
  return some(names, which) ?? '';
}

const lie: fc.Arbitrary<Lie> = fc.oneof(
  fc.tuple(fc.nat(3), fc.constantFrom(...SIZES)).chain(([axis, size]) =>
    onTensor((tensor) => {
      tensor.dims[axis % (tensor.dims.length + 1)] = size;
    }),
  ),
  fc
    .array(fc.constantFrom(...SIZES), { maxLength: 5 })
    .chain((dims) => onTensor((tensor) => (tensor.dims = [...dims]))),
  fc
    .constantFrom(0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 16, 17, 21, 99)
    .chain((type) => onTensor((tensor) => (tensor.dataType = type))),
  fc
    .constantFrom('floatData', 'int32Data', 'doubleData')
    .chain((key) => onTensor((tensor) => (tensor[key] = [1, 2, 3]))),
  fc.constantFrom(...PLACES).chain(([key, value]) =>
    onTensor((tensor) => {
      for (const entry of tensor.externalData) if (entry.key === key) entry.value = value;
    }),
  ),
  any.chain((which) => onTensor((tensor, model) => (tensor.name = nameIn(model, which)))),
  fc.tuple(any, fc.constantFrom(...OPERATORS, ...MORE)).map(([which, opType]): Lie => ({ graph }) => {
    const node = some(graph.node, which);
    if (node) node.opType = opType;
  }),
  fc.tuple(any, fc.nat(5), any, fc.boolean()).map(([which, slot, name, isInput]): Lie => (model) => {
    const node = some(model.graph.node, which);
    const names = (isInput ? node?.input : node?.output) ?? [];
    names[slot % (names.length + 1)] = nameIn(model, name);
  }),
  any.map((which): Lie => ({ graph }) => {
    const node = some(graph.node, which);
    if (node) node.attribute = [];
  }),
  fc.tuple(any, fc.nat(3), fc.constantFrom(...SIZES)).map(([which, slot, value]): Lie => ({ graph }) => {
    const attributes = graph.node.flatMap((node) => node.attribute);
    const attribute = some(attributes, which + slot);
    if (attribute) [attribute.i, attribute.t] = [value, undefined];
  }),
  fc
    .tuple(
      any,
      fc.constantFrom('/', '', '/a', '/a.b/a.b.c/MatMul', '/_1/_1_1_1/MatMul', '//', 'x'.repeat(9000)),
    )
    .map(([which, name]): Lie => ({ graph }) => {
      const node = some(graph.node, which);
      if (node) node.name = name;
    }),
  fc
    .tuple(any, fc.constantFrom("['', 'a', 'b'", '[]', "'''''", '["\\"]', "['".repeat(3000)))
    .map(([which, scopes]): Lie => ({ graph }) => {
      const node = some(graph.node, which);
      const entry = node?.metadataProps.find(({ key }) => key.endsWith('name_scopes'));
      if (entry) entry.value = scopes;
    }),
  any.map((which): Lie => ({ graph }) => {
    graph.node.push(...graph.node.splice(which % Math.max(1, graph.node.length), 1));
  }),
);

test('graphs that lie are refused with a code, or give modules that are sound', () => {
  const outcomes = noOutcomes();
  let merged = 0;
  fc.assert(
    fc.property(
      fc.nat(MODELS.length - 1),
      fc.array(lie, { minLength: 1, maxLength: 6 }),
      any,
      (which, lies, pick) => {
        const copy = copyModel(at(MODELS, which));
        for (const change of lies) change(copy);
        replaceFile(PATH, encodeModel(copy));
        closed(root, outcomes, () => {
          const model = openModel(PATH);
          weightFiles(model);
          const modules = findModules(model);
          for (const { name, inFeatures, outFeatures, bias } of modules) {
            assert.ok(name.length > 0);
            assert.ok(bias === null || bias.length === outFeatures, name);
            assert.ok(Number.isSafeInteger(inFeatures) && inFeatures > 0, `${name} reads ${inFeatures}`);
            assert.ok(Number.isSafeInteger(outFeatures) && outFeatures > 0, `${name} gives ${outFeatures}`);
          }
          const { sites, lost } = locateSites(model, modules);
          assert.ok(sites.length + lost.length >= modules.length);
          const module = some(modules, pick);
          if (module && module.outFeatures < 4096) {
            replaceParameters(model, [[module, { bias: new Float32Array(module.outFeatures) }]]);
            encodeModel(model);
            merged++;
          }
        });
      },
    ),
    { numRuns: 400, seed: 41 },
  );
  assertVaried(outcomes, 1);
  assert.ok(merged > 50);
});
