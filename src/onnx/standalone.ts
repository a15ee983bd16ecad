/** Writes a model that needs no other file's weights: all inside one .onnx file, or in one file of data beside it. */
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { StringStringEntryProtoSchema } from './gen/onnx_pb.js';
import type { TensorProto } from './gen/onnx_pb.js';
import { copyModel, encodeModel, externalEntry, tensorBytes } from './model.js';
import type { OnnxModel } from './model.js';

/** Weights together beyond this many bytes go into a file of their own (a protobuf ends at 2 GiB). */
const EXTERNAL_FROM_BYTES = 256 * 1024 * 1024;
/** Tensors in the data file begin at multiples of this, so that runtimes can map them. */
const ALIGNMENT = 4096;

function sizeOf(tensor: TensorProto): number {
  return Number(externalEntry(tensor, 'length') ?? tensor.rawData.length);
}

export interface Written {
  /** Names of the files in the folder. */
  readonly files: readonly string[];
  readonly weightBytes: number;
}

/** Writes `<name>`, and `<name>.data` where the weights are large, into a folder that exists. */
export function writeStandalone(source: OnnxModel, folder: string, name: string): Written {
  const model = copyModel(source);
  const tensors = model.graph.initializer;
  const weightBytes = tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);
  const isLarge = weightBytes >= EXTERNAL_FROM_BYTES;
  const dataName = `${name}.data`;
  const data = isLarge ? openSync(join(folder, dataName), 'w') : null;
  try {
    let offset = 0;
    for (const tensor of tensors) {
      const isExternal = externalEntry(tensor, 'location') !== undefined;
      if (!isExternal && (data === null || tensor.rawData.length < ALIGNMENT)) continue;
      const bytes = tensorBytes(source, tensor);
      tensor.externalData = [];
      if (data === null) {
        tensor.dataLocation = 0;
        tensor.rawData = bytes;
        continue;
      }
      offset = Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
      writeSync(data, bytes, 0, bytes.length, offset);
      const entries = { location: dataName, offset: String(offset), length: String(bytes.length) };
      tensor.externalData = Object.entries(entries).map(([key, value]) =>
        create(StringStringEntryProtoSchema, { key, value }),
      );
      tensor.dataLocation = 1;
      tensor.rawData = new Uint8Array();
      offset += bytes.length;
    }
  } finally {
    if (data !== null) closeSync(data);
  }
  writeFileSync(join(folder, name), encodeModel(model));
  return { files: isLarge ? [name, dataName] : [name], weightBytes };
}
