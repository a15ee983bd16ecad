/** Which modules a graph has, by what each exporter leaves behind. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { StringStringEntryProtoSchema } from '#dist/onnx/gen/onnx_pb.js';
import {
  moduleFromParameter,
  moduleFromPath,
  moduleFromScopes,
  withoutUseSuffix,
} from '#dist/onnx/module-names.js';
import { findModules } from '#dist/onnx/modules.js';
import type { GraphModule } from '#dist/onnx/modules.js';
import { at } from '../support/at.js';
import {
  ELEM,
  floatAttributeOf,
  floatTensor,
  intAttributeOf,
  intsAttribute,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
  transposed,
} from '../support/tiny-models.js';
import type { NodeProto, TensorProto } from '../support/tiny-models.js';
import { asModel } from './plan-harness.js';

const D = 4;
const N = 6;

function modulesOf(nodes: readonly NodeProto[], initializers: readonly TensorProto[]): GraphModule[] {
  const info = makeValueInfo('x', ELEM.FLOAT, ['batch', D]);
  return findModules(
    asModel(
      makeModel({
        inputs: [info],
        outputs: [makeValueInfo('y', ELEM.FLOAT, ['batch', N])],
        nodes,
        initializers,
      }),
    ),
  );
}

function names(modules: readonly GraphModule[]): string[] {
  return modules.map((module) => module.name);
}

function values(module: GraphModule): string[] {
  return module.uses.map((use) => use.value);
}

function scoped(node: NodeProto, ...scopes: string[]): NodeProto {
  const value = `[${scopes.map((scope) => `'${scope}'`).join(', ')}]`;
  node.metadataProps.push(create(StringStringEntryProtoSchema, { key: 'pkg.torch.onnx.name_scopes', value }));
  return node;
}

const weight = (name: string, seed = 1): TensorProto => floatTensor(name, [D, N], randomFloats(seed, D * N));
const bias = (name: string, seed = 2): TensorProto => floatTensor(name, [N], randomFloats(seed, N));
const matMul = (name: string, w: string, output = 'y'): NodeProto =>
  makeNode('MatMul', ['x', w], [output], { name });

describe('names from TorchScript paths', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['/encoder/layer.0/attention/self/query/MatMul', 'encoder.layer.0.attention.self.query'],
    ['/attn1/to_out.0/MatMul', 'attn1.to_out.0'],
    ['/add_embedding/add_embedding.0/Gemm', 'add_embedding.0'],
    ['/a/a.1/a.1.0/Gemm', 'a.1.0'],
    ['/layer.1/layer.10/MatMul', 'layer.1.layer.10'],
    ['/head/MatMul', 'head'],
    ['/MatMul', undefined],
    ['node_MatMul_46', undefined],
    ['', undefined],
  ];
  for (const [path, name] of cases) {
    it(`'${path}' is ${name ?? 'no module'}`, () => {
      assert.equal(moduleFromPath(path), name);
    });
  }

  it('a use suffix is split off, a number of its own is not', () => {
    assert.equal(withoutUseSuffix('query_1'), 'query');
    assert.equal(withoutUseSuffix('linear_12'), 'linear');
    assert.equal(withoutUseSuffix('query'), undefined);
    assert.equal(withoutUseSuffix('layer1'), undefined);
    assert.equal(withoutUseSuffix('_1'), undefined);
  });

  it('parameters name their module only by .weight and .bias', () => {
    assert.equal(moduleFromParameter('encoder.query.weight'), 'encoder.query');
    assert.equal(moduleFromParameter('encoder.query.bias'), 'encoder.query');
    assert.equal(moduleFromParameter('onnx::MatMul_12'), undefined);
    assert.equal(moduleFromParameter('val_4'), undefined);
    assert.equal(moduleFromParameter('weight'), undefined);
  });
});

describe('names from dynamo scopes', () => {
  it('the last scope but one is the module', () => {
    const node = scoped(matMul('node_MatMul_46', 'val_4'), '', 'bert', 'bert.layer.0.query', 'linear');
    assert.equal(moduleFromScopes(node), 'bert.layer.0.query');
  });

  it('the root module and nodes without scopes have no name', () => {
    assert.equal(moduleFromScopes(scoped(matMul('a', 'w'), '', 'linear')), undefined);
    assert.equal(moduleFromScopes(scoped(matMul('a', 'w'))), undefined);
    assert.equal(moduleFromScopes(matMul('a', 'w')), undefined);
  });

  it('double quotes and escapes are read too', () => {
    const node = matMul('a', 'w');
    const value = `["", "it's", 'a\\'b.c', "linear"]`;
    node.metadataProps.push(
      create(StringStringEntryProtoSchema, { key: 'pkg.torch.onnx.name_scopes', value }),
    );
    assert.match(moduleFromScopes(node) ?? '', /b\.c$/);
  });

  it('a product without scopes takes those of its bias Add', () => {
    const modules = modulesOf(
      [
        matMul('node_MatMul_1', 'val_1', 'product'),
        scoped(makeNode('Add', ['product', 'b'], ['y'], { name: 'node_Add_2' }), '', 'net', 'net.fc', 'add'),
      ],
      [weight('val_1'), bias('b')],
    );
    assert.deepEqual(names(modules), ['net.fc']);
  });

  it('without scopes a kept parameter or bias names it, and nothing at all leaves it out', () => {
    const add = makeNode('Add', ['product', 'net.fc.bias'], ['y'], { name: 'node_Add_2' });
    const product = matMul('node_MatMul_1', 'val_1', 'product');
    assert.deepEqual(names(modulesOf([product, add], [weight('val_1'), bias('net.fc.bias')])), ['net.fc']);
    assert.deepEqual(names(modulesOf([matMul('n', 'net.fc.weight')], [weight('net.fc.weight')])), ['net.fc']);
    assert.deepEqual(modulesOf([matMul('node_MatMul_1', 'val_1')], [weight('val_1')]), []);
  });

  it('a folded second copy of the weight is a second use; another weight is not', () => {
    const uses = (second: TensorProto): GraphModule[] =>
      modulesOf(
        [
          scoped(matMul('n1', 'val_1', 'first'), '', 'net.query', 'linear'),
          scoped(matMul('n2', 'val_2', 'y'), '', 'net.query', 'linear'),
        ],
        [weight('val_1', 1), second],
      );
    const module = at(uses(weight('val_2', 1)));
    assert.deepEqual(values(module), ['first', 'y']);
    assert.deepEqual(values(at(uses(weight('val_2', 5)))), ['first']);
  });
});

describe('uses of one module', () => {
  it('a suffix with the same weight is a use, with another weight a name of its own', () => {
    const shared = modulesOf(
      [matMul('/net/query/MatMul', 'w', 'a'), matMul('/net/query_1/MatMul', 'w', 'y')],
      [weight('w')],
    );
    assert.deepEqual(names(shared), ['net.query']);
    assert.deepEqual(values(at(shared)), ['a', 'y']);
    const distinct = modulesOf(
      [matMul('/net/linear/MatMul', 'w', 'a'), matMul('/net/linear_1/MatMul', 'v', 'y')],
      [weight('w', 1), weight('v', 2)],
    );
    assert.deepEqual(names(distinct), ['net.linear', 'net.linear_1']);
  });

  it('a real linear_1 without a sibling keeps its name', () => {
    assert.deepEqual(names(modulesOf([matMul('/time/linear_1/Gemm', 'w')], [weight('w')])), [
      'time.linear_1',
    ]);
  });

  it('a reused parent carries the suffix too', () => {
    const modules = modulesOf(
      [matMul('/group/layer/query/MatMul', 'w', 'a'), matMul('/group/layer_1/query/MatMul', 'w', 'y')],
      [weight('w')],
    );
    assert.deepEqual(names(modules), ['group.layer.query']);
    assert.deepEqual(values(at(modules)), ['a', 'y']);
  });

  it('and through Identity, as a layer used several times is exported', () => {
    const modules = modulesOf(
      [
        matMul('/net/query/MatMul', 'w', 'a'),
        makeNode('Identity', ['w'], ['w_again'], { name: 'Identity_1' }),
        matMul('/net/query_1/MatMul', 'w_again', 'y'),
      ],
      [weight('w')],
    );
    assert.deepEqual(values(at(modules)), ['a', 'y']);
  });
});

describe('weights', () => {
  it('behind Identity and Transpose, by the name they kept', () => {
    const modules = modulesOf(
      [
        makeNode('Identity', ['net.fc.weight'], ['same'], { name: 'Identity_0' }),
        makeNode('Transpose', ['same'], ['turned'], {
          name: 'Transpose_0',
          attributes: [intsAttribute('perm', [1, 0])],
        }),
        matMul('MatMul_0', 'turned'),
      ],
      [floatTensor('net.fc.weight', [N, D], randomFloats(1, N * D))],
    );
    assert.equal(modules.length, 1);
    const module = at(modules);
    assert.equal(module.name, 'net.fc');
    assert.deepEqual([module.inFeatures, module.outFeatures], [D, N]);
    assert.equal(module.weight?.storedOutIn, true);
  });

  for (const transB of [0, 1]) {
    it(`of a Gemm with transB ${transB}`, () => {
      const stored = transB === 1 ? [N, D] : [D, N];
      const gemm = makeNode('Gemm', ['x', 'w', 'b'], ['y'], {
        name: '/net/fc/Gemm',
        attributes: [intAttributeOf('transB', transB)],
      });
      const module = at(modulesOf([gemm], [floatTensor('w', stored, randomFloats(1, N * D)), bias('b')]));
      assert.deepEqual([module.inFeatures, module.outFeatures], [D, N]);
      assert.equal(module.weight?.storedOutIn, transB === 1);
      assert.deepEqual(module.bias, randomFloats(2, N));
    });
  }

  it('a Gemm’s transB and a Transpose cancel out', () => {
    const nodes = [
      makeNode('Transpose', ['w'], ['turned'], { name: 't', attributes: [intsAttribute('perm', [1, 0])] }),
      makeNode('Gemm', ['x', 'turned'], ['y'], {
        name: '/net/fc/Gemm',
        attributes: [intAttributeOf('transB', 1)],
      }),
    ];
    const module = at(modulesOf(nodes, [floatTensor('w', [D, N], transposed(randomFloats(1, N * D), N, D))]));
    assert.deepEqual([module.inFeatures, module.outFeatures], [D, N]);
    assert.equal(module.weight?.storedOutIn, false);
  });

  it('a product of two activations is no module', () => {
    assert.deepEqual(
      modulesOf([makeNode('MatMul', ['x', 'x'], ['y'], { name: '/net/attn/MatMul' })], []),
      [],
    );
  });
});

describe('biases', () => {
  const add = (inputs: string[]): NodeProto => makeNode('Add', inputs, ['y'], { name: '/net/fc/Add' });
  const product = matMul('/net/fc/MatMul', 'w', 'product');

  it('on either side of the Add', () => {
    for (const inputs of [
      ['b', 'product'],
      ['product', 'b'],
    ]) {
      const module = at(modulesOf([product, add(inputs)], [weight('w'), bias('b')]));
      assert.deepEqual(module.bias, randomFloats(2, N));
      assert.deepEqual(values(module), ['product']);
    }
  });

  it('through Identity, where equal parameters were merged', () => {
    const nodes = [
      makeNode('Identity', ['other.bias'], ['b'], { name: 'i' }),
      product,
      add(['b', 'product']),
    ];
    const module = at(modulesOf(nodes, [weight('w'), bias('other.bias')]));
    assert.equal(module.name, 'net.fc');
    assert.deepEqual(module.bias, randomFloats(2, N));
  });

  it('as a row [1, n]', () => {
    const row = floatTensor('b', [1, N], randomFloats(2, N));
    const module = at(modulesOf([product, add(['b', 'product'])], [weight('w'), row]));
    assert.deepEqual(module.bias, randomFloats(2, N));
  });

  it('scaled by a Gemm’s beta', () => {
    const gemm = makeNode('Gemm', ['x', 'w', 'b'], ['y'], { name: '/net/fc/Gemm' });
    gemm.attribute.push(floatAttributeOf('beta', 2));
    const module = at(modulesOf([gemm], [weight('w'), bias('b')]));
    assert.deepEqual(
      module.bias,
      randomFloats(2, N).map((value) => value * 2),
    );
  });

  it('none where an activation is added, or where the product has other readers', () => {
    const residual = makeNode('Add', ['product', 'x'], ['y'], { name: '/net/Add' });
    assert.equal(at(modulesOf([product, residual], [weight('w')])).bias, null);
    const reader = makeNode('Neg', ['product'], ['z'], { name: 'neg' });
    const module = at(modulesOf([product, reader, add(['b', 'product'])], [weight('w'), bias('b')]));
    assert.equal(module.bias, null);
  });
});

describe('normalizations', () => {
  it('LayerNormalization and a decomposed one are modules with a bias', () => {
    const nodes = [
      makeNode('LayerNormalization', ['x', 'g', 'b'], ['a'], { name: '/net/norm/LayerNormalization' }),
      makeNode('Mul', ['a', 'g'], ['m'], { name: '/net/norm2/Mul' }),
      makeNode('Add', ['m', 'net.norm2.bias'], ['y'], { name: '/net/norm2/Add_1' }),
    ];
    const vectors = ['g', 'b', 'net.norm2.bias'].map((name) => bias(name));
    const modules = modulesOf(nodes, vectors);
    assert.deepEqual(
      modules.map((module) => ({
        name: module.name,
        kind: module.kind,
        values: values(module),
        w: module.weight,
      })),
      [
        { name: 'net.norm', kind: 'normalization', values: ['a'], w: null },
        { name: 'net.norm2', kind: 'normalization', values: ['y'], w: null },
      ],
    );
  });

  it('a linear layer’s own Add is not one', () => {
    const nodes = [
      matMul('/net/fc/MatMul', 'w', 'product'),
      makeNode('Add', ['b', 'product'], ['y'], { name: '/net/fc/Add' }),
    ];
    assert.deepEqual(
      modulesOf(nodes, [weight('w'), bias('b')]).map((module) => module.kind),
      ['linear'],
    );
  });
});
