/**
 * Graphs in every form in which exporters and optimisers write a module with parameters, as functions of those
 * parameters: replacing them must give what building with them gives.
 */
import { D, PIXELS, IDS, FLAT } from './form-parts.js';
import type { Form } from './form-parts.js';
import {
  addAfterMatMul,
  gemm,
  deduplicated,
  tied,
  usedTwice,
  fusedBias,
  withoutBias,
  gemmWithoutBias,
} from './linear-forms.js';
import { widened, float16Model, listedAsInputs, constantNodes, integers } from './storage-forms.js';
import { convolution, layerNorm, decomposedNorm } from './other-forms.js';

export const FORMS: readonly Form[] = [
  {
    about: 'MatMul, then bias + product',
    module: 'm',
    build: addAfterMatMul((p, b) => [b, p]),
    brings: ['weight', 'bias'],
  },
  {
    about: 'MatMul, then product + bias',
    module: 'm',
    build: addAfterMatMul((p, b) => [p, b]),
    brings: ['weight', 'bias'],
  },
  { about: 'Gemm, transB = 1', module: 'm', build: gemm(1, 1), brings: ['weight', 'bias'], feed: FLAT },
  {
    about: 'Gemm, transB = 0, β = ½',
    module: 'm',
    build: gemm(0, 0.5),
    brings: ['weight', 'bias'],
    feed: FLAT,
  },
  {
    about: 'Gemm without a bias, β = 0',
    module: 'm',
    build: gemmWithoutBias,
    brings: ['weight', 'bias'],
    feed: FLAT,
  },
  { about: 'MatMul without a bias', module: 'm', build: withoutBias, brings: ['weight', 'bias'] },
  { about: 'a bias inside BiasGelu', module: 'm', build: fusedBias, brings: ['weight', 'bias'] },
  {
    about: 'weight and bias of another module too, one by Identity',
    module: 'm',
    build: deduplicated,
    brings: ['weight', 'bias'],
  },
  { about: 'only the weight of two that are shared', module: 'm', build: deduplicated, brings: ['weight'] },
  {
    about: 'a head tied to the embedding',
    module: 'head',
    build: tied('head'),
    brings: ['weight'],
    rows: 5,
    feed: IDS,
  },
  {
    about: 'an embedding tied to the head',
    module: 'embed',
    build: tied('table'),
    brings: ['weight'],
    rows: 5,
    feed: IDS,
  },
  { about: 'Conv', module: 'm', build: convolution(true), brings: ['weight', 'bias'], feed: PIXELS },
  {
    about: 'Conv without a bias',
    module: 'm',
    build: convolution(false),
    brings: ['weight', 'bias'],
    feed: PIXELS,
  },
  { about: 'LayerNormalization', module: 'norm', build: layerNorm, brings: ['bias'], rows: D },
  { about: 'a normalization in parts', module: 'norm', build: decomposedNorm, brings: ['bias'], rows: D },
  { about: 'parameters in Constant nodes', module: 'm', build: constantNodes, brings: ['weight', 'bias'] },
  { about: 'parameters listed as inputs', module: 'm', build: listedAsInputs, brings: ['weight', 'bias'] },
  { about: 'float16 parameters widened by Cast', module: 'm', build: widened, brings: ['weight', 'bias'] },
  { about: 'a float16 graph', module: 'm', build: float16Model, brings: ['weight', 'bias'], tolerance: 2e-3 },
  {
    about: 'a module used twice, as MatMul and as Gemm',
    module: 'm',
    build: usedTwice,
    brings: ['weight', 'bias'],
    rows: D,
    feed: FLAT,
  },
  { about: 'the bias of an int8 product', module: 'm', build: integers, brings: ['bias'] },
];
