/** Writes a model's weights to one file as they are made up, so that memory holds one slice at a time. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { TensorProtoSchema } from '#dist/onnx/gen/onnx_pb.js';
import type { TensorProto } from '#dist/onnx/gen/onnx_pb.js';
import { ELEM } from '#dist/onnx/model.js';
import type { Random } from './random.js';

const SLICE = 1 << 20;
const ALIGNMENT = 64;

export class WeightsFile {
  readonly tensors: TensorProto[] = [];
  readonly #fd: number;
  readonly #location: string;
  readonly #random: Random;
  #offset = 0;

  constructor(path: string, random: Random) {
    this.#fd = openSync(path, 'w');
    this.#location = basename(path);
    this.#random = random;
  }

  /** A float32 constant of normally distributed values. Returns its name. */
  normal(name: string, dims: readonly number[], mean: number, deviation: number): string {
    const count = dims.reduce((product, size) => product * size, 1);
    const offset = Math.ceil(this.#offset / ALIGNMENT) * ALIGNMENT;
    let position = offset;
    for (let done = 0; done < count; done += SLICE) {
      const slice = new Float32Array(Math.min(SLICE, count - done));
      this.#random.fillNormal(slice, mean, deviation);
      position += writeSync(this.#fd, slice, 0, slice.byteLength, position);
    }
    this.#offset = position;
    this.tensors.push(
      create(TensorProtoSchema, {
        name,
        dims: dims.map(BigInt),
        dataType: ELEM.FLOAT,
        dataLocation: 1,
        externalData: Object.entries({
          location: this.#location,
          offset: String(offset),
          length: String(count * Float32Array.BYTES_PER_ELEMENT),
        }).map(([key, value]) => ({ key, value })),
      }),
    );
    return name;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
