/** What graphs with replaceable parameters are built of. */
import { create } from '@bufbuild/protobuf';
import { OperatorSetIdProtoSchema } from '#dist/onnx/gen/onnx_pb.js';
import { tensorOf } from '#dist/onnx/model.js';
import type { OnnxModel } from '#dist/onnx/model.js';
import { ELEM, floatTensor, makeModel, makeNode, makeValueInfo, transposed } from '../support/tiny-models.js';
import type { ModelProto, NodeProto, TensorProto, ValueInfoProto } from '../support/tiny-models.js';
import type { Feed } from './run-onnx.js';

/** Width of what comes in and goes out: different, so that a wrong orientation shows. */
export const D = 6;
export const N = 4;

export interface Parameters {
  /** [rows, D]. */
  readonly weight: Float32Array;
  readonly bias: Float32Array;
}

export interface Form {
  readonly about: string;
  /** Name of the module whose parameters are replaced. */
  readonly module: string;
  /**
   * The graph; output `y` is the module's, `z`, where there is one, another module's that an exporter gave the same
   * tensors. With `own` the module has these parameters, and the other module keeps the shared ones.
   */
  readonly build: (shared: Parameters, own?: Parameters) => ModelProto;
  readonly brings: readonly (keyof Parameters)[];
  /** Rows of the weight; N unless told. */
  readonly rows?: number;
  readonly feed?: Feed;
  readonly tolerance?: number;
}

export const TOKENS: Feed = {
  datatype: 'FP32',
  shape: [2, 3, D],
  data: Array.from({ length: 2 * 3 * D }, (_, i) => Math.sin(1 + 7 * i)),
};
export const PIXELS: Feed = {
  datatype: 'FP32',
  shape: [1, 3, 4, 4],
  data: Array.from({ length: 48 }, (_, i) => Math.cos(3 * i)),
};
export const IDS: Feed = { datatype: 'INT64', shape: [2, 3], data: [0, 3, 2, 4, 1, 0] };

export function feedOf(form: Form): Feed {
  return form.feed ?? TOKENS;
}

function asInput({ datatype, shape }: Feed): ValueInfoProto {
  return makeValueInfo('x', datatype === 'INT64' ? ELEM.INT64 : ELEM.FLOAT, shape);
}

/** A model over x; outputs are declared by rank only, the last width given. */
export function model(
  feed: Feed,
  outputs: Readonly<Record<string, readonly (number | string)[]>>,
  nodes: readonly NodeProto[],
  initializers: readonly TensorProto[],
): ModelProto {
  const proto = makeModel({
    inputs: [asInput(feed)],
    outputs: Object.entries(outputs).map(([name, dims]) => makeValueInfo(name, ELEM.FLOAT, dims)),
    nodes,
    initializers,
  });
  proto.opsetImport.push(create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }));
  return proto;
}

export const wide = (name: string, { weight }: Parameters): TensorProto =>
  floatTensor(name, [D, weight.length / D], transposed(weight, weight.length / D, D));
export const tall = (name: string, { weight }: Parameters): TensorProto =>
  floatTensor(name, [weight.length / D, D], weight);
export const vector = (name: string, { bias }: Parameters): TensorProto =>
  floatTensor(name, [bias.length], bias);
export const half = (tensor: TensorProto, values: Float32Array): TensorProto =>
  tensorOf(tensor.name, tensor.dims.map(Number), values, ELEM.FLOAT16);

export const node = (
  opType: string,
  inputs: readonly string[],
  output: string,
  name: string,
  ...attributes: NodeProto['attribute']
): NodeProto => makeNode(opType, inputs, [output], { name, attributes });
export const microsoft = (
  opType: string,
  inputs: readonly string[],
  output: string,
  ...attributes: NodeProto['attribute']
): NodeProto => makeNode(opType, inputs, [output], { name: output, domain: 'com.microsoft', attributes });

export const rows3 = (width: number): (number | string)[] => [2, 3, width];
export const widthOf = (p: Parameters): number => p.bias.length;

/** Gemm wants rank 2. */
export const FLAT: Feed = { ...TOKENS, shape: [6, D] };

export function asModel(proto: ModelProto): OnnxModel {
  if (!proto.graph) throw new Error('a model without graph');
  return { proto, graph: proto.graph, folder: '.' };
}
