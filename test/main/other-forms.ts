/** Convolutions and normalizations. */
import { floatTensor, intsAttribute } from '../support/tiny-models.js';
import { D, TOKENS, PIXELS, model, vector, node, rows3 } from './form-parts.js';
import type { Form } from './form-parts.js';

export function convolution(hasBias: boolean): Form['build'] {
  return (shared, own = shared) =>
    model(
      PIXELS,
      { y: [1, 4, 4, 3] },
      [
        node(
          'Conv',
          hasBias || own !== shared ? ['x', 'm.weight', 'm.bias'] : ['x', 'm.weight'],
          'y',
          '/m/Conv',
          intsAttribute('kernel_shape', [1, 2]),
        ),
      ],
      [
        floatTensor('m.weight', [4, 3, 1, 2], own.weight),
        ...(hasBias || own !== shared ? [vector('m.bias', own)] : []),
      ],
    );
}

export const layerNorm: Form['build'] = (shared, own = shared) =>
  model(
    TOKENS,
    { y: rows3(D) },
    [node('LayerNormalization', ['x', 'gain', 'norm.bias'], 'y', '/norm/LayerNormalization')],
    [floatTensor('gain', [D], new Float32Array(D).fill(1.5)), vector('norm.bias', own)],
  );

export const decomposedNorm: Form['build'] = (shared, own = shared) =>
  model(
    TOKENS,
    { y: rows3(D) },
    [
      node('Mul', ['x', 'gain'], 'scaled', '/norm/Mul'),
      node('Add', ['scaled', 'norm.bias'], 'y', '/norm/Add_1'),
    ],
    [floatTensor('gain', [D], new Float32Array(D).fill(1.5)), vector('norm.bias', own)],
  );
