/**
 * A tiny masked encoder as an exporter would write it: one attention layer, LayerNormalization, a feed-forward with
 * GELU, a pooler (Gemm + Tanh) and a classifier (Gemm). Its parameters are given beside it, for the reference.
 */
import {
  ELEM,
  floatTensor,
  gelu,
  int64Tensor,
  intAttributeOf,
  intsAttribute,
  linear,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
} from './tiny-models.js';
import type { LinearLayer, LinearOptions, ModelProto, NodeProto, TensorProto } from './tiny-models.js';

export const VOCABULARY = 11;
export const WIDTH = 16;
export const INNER = 24;
export const CLASSES = 3;

export interface EncoderParameters {
  readonly table: Float32Array;
  readonly layers: ReadonlyMap<string, LinearLayer>;
  readonly norm: { readonly gamma: Float32Array; readonly beta: Float32Array };
}

export interface TinyEncoder {
  readonly proto: ModelProto;
  readonly parameters: EncoderParameters;
}

export function tinyEncoder(seed = 1): TinyEncoder {
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  const layers = new Map<string, LinearLayer>();
  let nextSeed = seed * 1000;
  const add = (
    opType: string,
    inputs: string[],
    output: string,
    attributes = [] as NodeProto['attribute'],
  ): void => {
    nodes.push(makeNode(opType, inputs, [output], { name: `/encoder/${output}/${opType}`, attributes }));
  };
  const layer = (
    module: string,
    [input, output]: readonly [string, string],
    [inFeatures, outFeatures]: readonly [number, number],
    form: LinearOptions['form'] = 'MatMulAdd',
  ): void => {
    const parts = linear({ module, input, output, inFeatures, outFeatures, form, seed: (nextSeed += 10) });
    nodes.push(...parts.nodes);
    initializers.push(...parts.initializers);
    layers.set(module, parts.layer);
  };
  const table = randomFloats(nextSeed + 1, VOCABULARY * WIDTH);
  const gamma = randomFloats(nextSeed + 2, WIDTH, 0.3).map((value) => value + 1);
  const beta = randomFloats(nextSeed + 3, WIDTH, 0.3);
  initializers.push(
    floatTensor('embeddings.weight', [VOCABULARY, WIDTH], table),
    floatTensor('encoder.norm.weight', [WIDTH], gamma),
    floatTensor('encoder.norm.bias', [WIDTH], beta),
    floatTensor('one', [], Float32Array.of(1)),
    floatTensor('minus', [], Float32Array.of(-1e4)),
    floatTensor('scaling', [], Float32Array.of(1 / Math.sqrt(WIDTH))),
    int64Tensor('axis', [1], [1]),
    int64Tensor('first', [], [0]),
  );

  nodes.push(
    makeNode('Gather', ['embeddings.weight', 'input_ids'], ['embedded'], { name: '/embeddings/Gather' }),
  );
  add('Cast', ['attention_mask'], 'mask', [intAttributeOf('to', ELEM.FLOAT)]);
  add('Sub', ['one', 'mask'], 'hidden_positions');
  add('Mul', ['hidden_positions', 'minus'], 'penalty');
  add('Unsqueeze', ['penalty', 'axis'], 'penalties');

  const square = [WIDTH, WIDTH] as const;
  layer('encoder.query', ['embedded', 'q'], square);
  layer('encoder.key', ['embedded', 'k'], square);
  layer('encoder.value', ['embedded', 'v'], square);
  add('Transpose', ['k'], 'k_turned', [intsAttribute('perm', [0, 2, 1])]);
  add('MatMul', ['q', 'k_turned'], 'products');
  add('Mul', ['products', 'scaling'], 'scores');
  add('Add', ['scores', 'penalties'], 'masked_scores');
  add('Softmax', ['masked_scores'], 'attention', [intAttributeOf('axis', -1)]);
  add('MatMul', ['attention', 'v'], 'context');
  layer('encoder.output', ['context', 'attended'], square);
  add('Add', ['embedded', 'attended'], 'residual');
  nodes.push(
    makeNode('LayerNormalization', ['residual', 'encoder.norm.weight', 'encoder.norm.bias'], ['normal'], {
      name: '/encoder/norm/LayerNormalization',
    }),
  );
  layer('encoder.up', ['normal', 'raised'], [WIDTH, INNER]);
  const activation = gelu('raised', 'activated');
  nodes.push(...activation.nodes);
  initializers.push(...activation.initializers);
  layer('encoder.down', ['activated', 'lowered'], [INNER, WIDTH], 'MatMul');
  add('Add', ['normal', 'lowered'], 'hidden');

  add('Gather', ['hidden', 'first'], 'first_token', [intAttributeOf('axis', 1)]);
  layer('pooler', ['first_token', 'pooled'], square, 'Gemm');
  add('Tanh', ['pooled'], 'pooled_tanh');
  layer('classifier', ['pooled_tanh', 'logits'], [WIDTH, CLASSES], 'Gemm');

  const tokens = ['batch', 'sequence'];
  const proto = makeModel({
    inputs: [
      makeValueInfo('input_ids', ELEM.INT64, tokens),
      makeValueInfo('attention_mask', ELEM.INT64, tokens),
    ],
    outputs: [
      makeValueInfo('logits', ELEM.FLOAT, ['batch', CLASSES]),
      makeValueInfo('hidden', ELEM.FLOAT, [...tokens, WIDTH]),
    ],
    nodes,
    initializers,
  });
  return { proto, parameters: { table, layers, norm: { gamma, beta } } };
}
