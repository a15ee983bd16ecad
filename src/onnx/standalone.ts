/** Writes a model that needs no other file's weights: all inside one .onnx file, or in one file of data beside it. */
import { closeSync, openSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { StringStringEntryProtoSchema } from './gen/onnx_pb.js';
import type { TensorProto } from './gen/onnx_pb.js';
import { copyModel, encodeModel, externalEntry, tensorBytes, tensorsOf } from './model.js';
import type { OnnxModel } from './model.js';

/** Weights together beyond this many bytes go into a file of their own (a protobuf ends at 2 GiB). */
const EXTERNAL_FROM_BYTES = 256 * 1024 * 1024;
/** Tensors in the data file begin at multiples of this, so that runtimes can map them; smaller ones stay in the graph. */
const ALIGNMENT = 4096;
/** One system call writes less than 2 GiB. */
const MAX_WRITE_BYTES = 1 << 30;

function sizeOf(tensor: TensorProto): number {
  const { rawData, floatData, int32Data, int64Data, doubleData } = tensor;
  const typed = 4 * (floatData.length + int32Data.length) + 8 * (int64Data.length + doubleData.length);
  return Number(externalEntry(tensor, 'length') ?? rawData.length + typed);
}

/** What a standalone model consists of, given its file's name. */
export function standaloneFiles(name: string): readonly [graph: string, data: string] {
  return [name, `${name}.data`];
}

export interface Written {
  /** Names of the files in the folder. */
  readonly files: readonly string[];
  readonly weightBytes: number;
}

/** Appends tensors to a file. */
class DataFile {
  private end = 0;

  constructor(
    private readonly fd: number,
    private readonly name: string,
  ) {}

  add(bytes: Uint8Array): TensorProto['externalData'] {
    const offset = Math.ceil(this.end / ALIGNMENT) * ALIGNMENT;
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.fd, bytes, done, Math.min(bytes.length - done, MAX_WRITE_BYTES), offset + done);
    }
    this.end = offset + bytes.length;
    const entries = { location: this.name, offset: String(offset), length: String(bytes.length) };
    return Object.entries(entries).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    );
  }
}

/**
 * Writes `<name>`, and `<name>.data` where the weights are `externalFromBytes` or more, into a folder that exists. The
 * graph comes last and under its name only when it is whole.
 *
 * @throws PapillonError BASE_UNREADABLE where the source's weights cannot be read; the file system's own errors
 */
export function writeStandalone(
  source: OnnxModel,
  folder: string,
  name: string,
  { externalFromBytes = EXTERNAL_FROM_BYTES }: { readonly externalFromBytes?: number } = {},
): Written {
  const model = copyModel(source);
  const tensors = [...tensorsOf(model.graph)];
  const weightBytes = tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);
  const isLarge = weightBytes >= externalFromBytes;
  const [graphName, dataName] = standaloneFiles(name);
  const fd = isLarge ? openSync(join(folder, dataName), 'w') : null;
  try {
    const data = fd === null ? null : new DataFile(fd, dataName);
    // Runtimes infer shapes from small constants, and of the graph's own initializers only.
    const movable = new Set(model.graph.initializer);
    for (const tensor of tensors) {
      const isExternal = externalEntry(tensor, 'location') !== undefined;
      if (!isExternal && (data === null || tensor.rawData.length < ALIGNMENT)) continue;
      const bytes = tensorBytes(source, tensor);
      const moves = data !== null && movable.has(tensor) && bytes.length >= ALIGNMENT;
      tensor.externalData = moves ? data.add(bytes) : [];
      tensor.dataLocation = moves ? 1 : 0;
      tensor.rawData = moves ? new Uint8Array() : bytes;
    }
  } finally {
    if (fd !== null) closeSync(fd);
  }
  const partial = join(folder, `.${graphName}.partial`);
  writeFileSync(partial, encodeModel(model));
  renameSync(partial, join(folder, graphName));
  return { files: isLarge ? [graphName, dataName] : [graphName], weightBytes };
}
