/**
 * ModelProto in and out, and the values of its constants. Weights stay in their files: a tensor's bytes are read
 * only when asked for.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { clone, create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { PapillonError } from '../errors.js';
import { ModelProtoSchema, TensorProtoSchema } from './gen/onnx_pb.js';
import type { GraphProto, ModelProto, TensorProto } from './gen/onnx_pb.js';
import { readSkeleton } from './skeleton.js';

/** TensorProto.data_type values that occur here. */
export const ELEM = {
  FLOAT: 1,
  UINT8: 2,
  INT8: 3,
  INT32: 6,
  INT64: 7,
  STRING: 8,
  BOOL: 9,
  FLOAT16: 10,
  DOUBLE: 11,
  BFLOAT16: 16,
} as const;

/** A parsed model and the folder that its external data is relative to. */
export interface OnnxModel {
  readonly proto: ModelProto;
  readonly graph: GraphProto;
  readonly folder: string;
}

/** Parses the graph of an .onnx file; weights are left where they are. Throws BASE_UNREADABLE. */
export function openModel(path: string): OnnxModel {
  const bytes = readSkeleton(path, basename(path));
  let proto: ModelProto;
  try {
    proto = fromBinary(ModelProtoSchema, bytes);
  } catch (error) {
    throw new PapillonError('BASE_UNREADABLE', 'the model file is not a valid ONNX protobuf', {
      cause: error,
    });
  }
  if (!proto.graph || proto.graph.node.length === 0) {
    throw new PapillonError('BASE_UNREADABLE', 'the model file holds no graph: is it an ONNX model?');
  }
  return { proto, graph: proto.graph, folder: dirname(path) };
}

/** A deep copy that passes may edit. Weights are references into files, so this costs only the graph. */
export function copyModel(model: OnnxModel): OnnxModel {
  const proto = clone(ModelProtoSchema, model.proto);
  if (!proto.graph) throw new PapillonError('BASE_UNREADABLE', 'the model holds no graph');
  return { proto, graph: proto.graph, folder: model.folder };
}

export function encodeModel(model: OnnxModel): Uint8Array {
  return toBinary(ModelProtoSchema, model.proto);
}

/** Files that hold a model's weights: itself and those its external data names, by file name. */
export function weightFiles(model: OnnxModel): string[] {
  const names = new Set<string>();
  for (const tensor of model.graph.initializer) {
    const location = externalEntry(tensor, 'location');
    if (location !== undefined) names.add(location);
  }
  return [...names];
}

export function externalEntry(tensor: TensorProto, key: string): string | undefined {
  return tensor.externalData.find((entry) => entry.key === key)?.value;
}

export function tensorDims(tensor: TensorProto): number[] {
  return tensor.dims.map(Number);
}

function elementCount(tensor: TensorProto): number {
  return tensorDims(tensor).reduce((product, size) => product * size, 1);
}

/** The raw little-endian bytes of a tensor, from the message or from its file. */
export function tensorBytes(model: OnnxModel, tensor: TensorProto): Uint8Array {
  const location = externalEntry(tensor, 'location');
  if (location === undefined) return tensor.rawData;
  const path = join(model.folder, location);
  const offset = Number(externalEntry(tensor, 'offset') ?? 0);
  let fd: number;
  try {
    const length = Number(externalEntry(tensor, 'length') ?? statSync(path).size - offset);
    const out = new Uint8Array(length);
    fd = openSync(path, 'r');
    try {
      if (readSync(fd, out, 0, length, offset) !== length) throw new Error('short read');
    } finally {
      closeSync(fd);
    }
    return out;
  } catch (error) {
    throw new PapillonError('BASE_UNREADABLE', `the weights of '${tensor.name}' cannot be read`, {
      cause: error,
    });
  }
}

/** A buffer of these bytes alone: a Buffer's own slice() would be a view into a larger one. */
function alignedCopy(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

/** A float tensor's values as float32, or null for other element types. */
export function readFloats(model: OnnxModel, tensor: TensorProto): Float32Array | null {
  const count = elementCount(tensor);
  if (tensor.dataType === ELEM.FLOAT) {
    if (tensor.floatData.length > 0) return Float32Array.from(tensor.floatData);
    return new Float32Array(alignedCopy(tensorBytes(model, tensor)), 0, count);
  }
  if (tensor.dataType === ELEM.DOUBLE) {
    if (tensor.doubleData.length > 0) return Float32Array.from(tensor.doubleData);
    return Float32Array.from(new Float64Array(alignedCopy(tensorBytes(model, tensor)), 0, count));
  }
  return null;
}

export function int64Tensor(name: string, dims: readonly number[], values: readonly number[]): TensorProto {
  const raw = new Uint8Array(BigInt64Array.from(values.map(BigInt)).buffer);
  return create(TensorProtoSchema, { name, dims: dims.map(BigInt), dataType: ELEM.INT64, rawData: raw });
}

export function floatTensor(name: string, dims: readonly number[], values: Float32Array): TensorProto {
  const raw = new Uint8Array(values.slice().buffer);
  return create(TensorProtoSchema, { name, dims: dims.map(BigInt), dataType: ELEM.FLOAT, rawData: raw });
}
