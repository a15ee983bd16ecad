/** Writes safetensors files: 8 bytes of header length, the JSON header, the tensors' bytes in order. */

export type Dtype = 'F32' | 'BF16';

export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** As stored; float32 if not given. */
  readonly dtype?: Dtype;
}

export function writeSafetensors(tensors: readonly NamedTensor[]): Buffer {
  const header: Record<string, object> = { __metadata__: { format: 'pt' } };
  let end = 0;
  const parts: Buffer[] = [];
  for (const { name, shape, data, dtype = 'F32' } of tensors) {
    const begin = end;
    const part = stored(data, dtype);
    parts.push(part);
    end += part.length;
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  const text = JSON.stringify(header);
  // Padded so that the data begin at a multiple of 8.
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, ...parts]);
}

function stored(data: Float32Array, dtype: Dtype): Buffer {
  if (dtype === 'F32') return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  // The upper half of a float32, cut off rather than rounded.
  return Buffer.from(Uint16Array.from(bits, (value) => value >>> 16).buffer);
}
