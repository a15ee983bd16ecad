/** Linear layers as exporters and optimisers write them, alone and sharing their tensors. */
import { floatAttributeOf, floatTensor, intAttributeOf, intsAttribute } from '../support/tiny-models.js';
import {
  D,
  N,
  TOKENS,
  IDS,
  FLAT,
  model,
  wide,
  tall,
  vector,
  node,
  microsoft,
  rows3,
  widthOf,
} from './form-parts.js';
import type { Form } from './form-parts.js';

export function addAfterMatMul(order: (value: string, bias: string) => string[]): Form['build'] {
  return (shared, own = shared) =>
    model(
      TOKENS,
      { y: rows3(widthOf(own)) },
      [node('MatMul', ['x', 'w'], 'p', '/m/MatMul'), node('Add', order('p', 'm.bias'), 'y', '/m/Add')],
      [wide('w', own), vector('m.bias', own)],
    );
}

export function gemm(transB: 0 | 1, beta: number): Form['build'] {
  return (shared, own = shared) =>
    model(
      FLAT,
      { y: [6, widthOf(own)] },
      [
        node(
          'Gemm',
          ['x', 'w', 'm.bias'],
          'y',
          '/m/Gemm',
          intAttributeOf('transB', transB),
          floatAttributeOf('beta', beta),
        ),
      ],
      [
        transB === 1 ? tall('w', own) : wide('w', own),
        floatTensor(
          'm.bias',
          [widthOf(own)],
          own.bias.map((value) => value / beta),
        ),
      ],
    );
}

/** Two modules over one weight and one bias, which goes through an Identity to the second. */
export const deduplicated: Form['build'] = (shared, own = shared) => {
  const separate = own === shared ? [] : [wide('w2', own), vector('b2', own)];
  const [w, b] = own === shared ? ['w', 'b'] : ['w2', 'b2'];
  return model(
    TOKENS,
    { y: rows3(widthOf(own)), z: rows3(N) },
    [
      node('Identity', [b], 'm.bias', 'Identity_1'),
      node('MatMul', ['x', 'w'], 'q', '/other/MatMul'),
      node('Add', ['b', 'q'], 'z', '/other/Add'),
      node('MatMul', ['x', w], 'p', '/m/MatMul'),
      node('Add', ['m.bias', 'p'], 'y', '/m/Add'),
    ],
    [wide('w', shared), vector('b', shared), ...separate],
  );
};

/** A table of rows that a head reads too, by way of a Transpose. */
export function tied(changed: 'head' | 'table'): Form['build'] {
  return (shared, own = shared) => {
    const separate = own === shared ? [] : [tall('own', own)];
    const [table, head] = own === shared ? ['e', 'e'] : changed === 'head' ? ['e', 'own'] : ['own', 'e'];
    return model(
      IDS,
      changed === 'head' ? { y: rows3(own.weight.length / D) } : { y: rows3(D), z: rows3(5) },
      [
        node('Gather', [table, 'x'], changed === 'head' ? 'h' : 'y', '/embed/Gather'),
        node('Transpose', [head], 'et', '/head/Transpose', intsAttribute('perm', [1, 0])),
        node(
          'MatMul',
          [changed === 'head' ? 'h' : 'y', 'et'],
          changed === 'head' ? 'y' : 'z',
          '/head/MatMul',
        ),
      ],
      [tall('e', shared), ...separate],
    );
  };
}

/** One module called twice; the second use's nodes carry a suffix. */
export const usedTwice: Form['build'] = (shared, own = shared) =>
  model(
    FLAT,
    { y: [6, D] },
    [
      node('MatMul', ['x', 'w'], 'p', '/m/MatMul'),
      node('Add', ['m.bias', 'p'], 'h', '/m/Add'),
      node('Gemm', ['h', 'w', 'm.bias'], 'y', '/m_1/Gemm', intAttributeOf('transB', 0)),
    ],
    [wide('w', own), vector('m.bias', own)],
  );

/** What ONNX Runtime's optimisers make of a bias in front of an activation. */
export const fusedBias: Form['build'] = (shared, own = shared) =>
  model(
    TOKENS,
    { y: rows3(N) },
    [node('MatMul', ['x', 'w'], 'p', '/m/MatMul'), microsoft('BiasGelu', ['p', 'm.bias'], 'y')],
    [wide('w', own), vector('m.bias', own)],
  );

export const withoutBias: Form['build'] = (shared, own = shared) =>
  own === shared
    ? model(
        TOKENS,
        { y: rows3(N), z: rows3(N) },
        [node('MatMul', ['x', 'w'], 'y', '/m/MatMul'), node('Relu', ['y'], 'z', '/Relu')],
        [wide('w', shared)],
      )
    : model(
        TOKENS,
        { y: rows3(N), z: rows3(N) },
        [
          node('MatMul', ['x', 'w'], 'p', '/m/MatMul'),
          node('Add', ['m.bias', 'p'], 'y', '/m/Add'),
          node('Relu', ['y'], 'z', '/Relu'),
        ],
        [wide('w', own), vector('m.bias', own)],
      );

export const gemmWithoutBias: Form['build'] = (shared, own = shared) =>
  own === shared
    ? model(
        FLAT,
        { y: [6, N] },
        [node('Gemm', ['x', 'w'], 'y', '/m/Gemm', floatAttributeOf('beta', 0))],
        [wide('w', shared)],
      )
    : gemm(0, 1)(own);
