/**
 * Small ONNX models for tests, written with our own codec: single linear sites in every form that exporters give
 * them, and a tiny masked encoder. Everything is a function of a seed.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProtoSchema,
  AttributeType,
  GraphProtoSchema,
  ModelProtoSchema,
  OperatorSetIdProtoSchema,
} from '#dist/onnx/gen/onnx_pb.js';
import type {
  AttributeProto,
  ModelProto,
  NodeProto,
  TensorProto,
  ValueInfoProto,
} from '#dist/onnx/gen/onnx_pb.js';
import { intAttributeOf, intsAttribute, makeNode, makeValueInfo } from '#dist/onnx/graph.js';
import { ELEM, floatTensor, int64Tensor } from '#dist/onnx/model.js';

export { ELEM, floatTensor, int64Tensor, intAttributeOf, intsAttribute, makeNode, makeValueInfo };
export type { AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto };

/** Uniform numbers in [−1, 1), the same for the same seed. */
export function generator(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  };
}

export function randomFloats(seed: number, count: number, scale = 1): Float32Array {
  const next = generator(seed);
  return Float32Array.from({ length: count }, () => next() * scale);
}

export function floatAttributeOf(name: string, value: number): AttributeProto {
  return create(AttributeProtoSchema, { name, f: value, type: AttributeType.FLOAT });
}

export function stringAttributeOf(name: string, value: string): AttributeProto {
  const s = new TextEncoder().encode(value);
  return create(AttributeProtoSchema, { name, s, type: AttributeType.STRING });
}

export interface ModelParts {
  readonly inputs: readonly ValueInfoProto[];
  readonly outputs: readonly ValueInfoProto[];
  readonly nodes: readonly NodeProto[];
  readonly initializers?: readonly TensorProto[];
}

export function makeModel(parts: ModelParts): ModelProto {
  return create(ModelProtoSchema, {
    irVersion: 8n,
    producerName: 'papillon-tests',
    opsetImport: [create(OperatorSetIdProtoSchema, { domain: '', version: 17n })],
    graph: create(GraphProtoSchema, {
      name: 'tiny',
      input: [...parts.inputs],
      output: [...parts.outputs],
      node: [...parts.nodes],
      initializer: [...(parts.initializers ?? [])],
    }),
  });
}

/** Writes a model into a folder and gives its path. */
export function writeModel(folder: string, model: ModelProto, name = 'model.onnx'): string {
  const path = join(folder, name);
  writeFileSync(path, toBinary(ModelProtoSchema, model));
  return path;
}

export interface GemmOptions {
  readonly transA?: 0 | 1;
  readonly transB?: 0 | 1;
  readonly alpha?: number;
  readonly beta?: number;
}

export interface LinearOptions {
  /** Torch path; the nodes are named as the TorchScript exporter would. */
  readonly module: string;
  readonly input: string;
  readonly output: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly form: 'MatMul' | 'MatMulAdd' | 'Gemm' | 'GemmNoBias';
  readonly seed: number;
  readonly gemm?: GemmOptions;
}

/** A layer's parameters as torch keeps them. */
export interface LinearLayer {
  readonly module: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** [outFeatures, inFeatures]. */
  readonly weight: Float32Array;
  readonly bias: Float32Array | null;
  readonly alpha: number;
  readonly beta: number;
}

export interface LinearParts {
  readonly layer: LinearLayer;
  readonly nodes: readonly NodeProto[];
  readonly initializers: readonly TensorProto[];
  /** The value that the product's node computes. */
  readonly value: string;
}

/** [rows, columns] → [columns, rows]. */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(
    { length: values.length },
    (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number,
  );
}

/** One linear layer: MatMul, MatMul + Add, or Gemm. */
export function linear(options: LinearOptions): LinearParts {
  const { module, input, output, inFeatures: d, outFeatures: n, form, seed, gemm = {} } = options;
  const path = `/${module.replaceAll('.', '/')}`;
  const weight = randomFloats(seed, n * d, 1 / Math.sqrt(d));
  const hasBias = form === 'MatMulAdd' || form === 'Gemm';
  const bias = hasBias ? randomFloats(seed + 1, n, 0.5) : null;
  const layer = {
    module,
    inFeatures: d,
    outFeatures: n,
    weight,
    bias,
    alpha: gemm.alpha ?? 1,
    beta: gemm.beta ?? 1,
  };
  const weightName = `onnx::MatMul_${module}`;
  const biasName = `${module}.bias`;
  const biases = bias ? [floatTensor(biasName, [n], bias)] : [];
  if (form === 'MatMul' || form === 'MatMulAdd') {
    const value = form === 'MatMul' ? output : `${path}/MatMul_output_0`;
    const nodes = [makeNode('MatMul', [input, weightName], [value], { name: `${path}/MatMul` })];
    if (form === 'MatMulAdd')
      nodes.push(makeNode('Add', [biasName, value], [output], { name: `${path}/Add` }));
    const initializers = [floatTensor(weightName, [d, n], transposed(weight, n, d)), ...biases];
    return { layer, nodes, initializers, value };
  }
  const transB = gemm.transB ?? 1;
  const attributes = [intAttributeOf('transB', transB)];
  if (gemm.transA !== undefined) attributes.push(intAttributeOf('transA', gemm.transA));
  if (gemm.alpha !== undefined) attributes.push(floatAttributeOf('alpha', gemm.alpha));
  if (gemm.beta !== undefined) attributes.push(floatAttributeOf('beta', gemm.beta));
  const stored =
    transB === 1
      ? floatTensor(weightName, [n, d], weight)
      : floatTensor(weightName, [d, n], transposed(weight, n, d));
  const inputs = bias ? [input, weightName, biasName] : [input, weightName];
  const nodes = [makeNode('Gemm', inputs, [output], { name: `${path}/Gemm`, attributes })];
  return { layer, nodes, initializers: [stored, ...biases], value: output };
}

/** Erf-GELU as exporters write it: 0.5 · x · (1 + erf(x / √2)). */
export function gelu(input: string, output: string): { nodes: NodeProto[]; initializers: TensorProto[] } {
  const step = (name: string): string => `${output}/${name}`;
  return {
    nodes: [
      makeNode('Div', [input, step('sqrt2')], [step('div')], { name: step('Div') }),
      makeNode('Erf', [step('div')], [step('erf')], { name: step('Erf') }),
      makeNode('Add', [step('erf'), step('one')], [step('add')], { name: step('Add') }),
      makeNode('Mul', [input, step('add')], [step('mul')], { name: step('Mul') }),
      makeNode('Mul', [step('mul'), step('half')], [output], { name: step('Mul_1') }),
    ],
    initializers: [
      floatTensor(step('sqrt2'), [], Float32Array.of(Math.SQRT2)),
      floatTensor(step('one'), [], Float32Array.of(1)),
      floatTensor(step('half'), [], Float32Array.of(0.5)),
    ],
  };
}
