/**
 * Assembles the operands of a plan for the lanes of a batch, and keeps what it assembled: a lane whose adapter did
 * not change since the last batch of its kind costs nothing.
 */
import { LRUCache } from 'lru-cache';
import { embedBlocks, mergeWeight } from '../math/index.js';
import type { OperandKind } from '../onnx/plan.js';
import type { AdapterOperands, ModuleOperands, Rotation } from '../types.js';

/** One operand input of a plan. */
export interface OperandSlot {
  /** Name of the graph input. */
  readonly name: string;
  readonly module: string;
  readonly kind: OperandKind;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** The weight operand takes the adapter's rotation and scale merged (convolutions). */
  readonly merged: boolean;
}

/** The values of operands that an adapter leaves to the base. */
export interface BaseOperands {
  /** b₀ [outFeatures] of a module, or null where it has no bias. */
  bias(module: string): Float32Array | null;
  /** W₀ [outFeatures, inFeatures]. */
  weight(module: string): Float32Array;
}

/** What all lanes of a batch share. */
export interface LaneSizes {
  /** Block size e by rotated width: all rotations of one width share it. */
  readonly blocks: ReadonlyMap<number, number>;
  /** Width n' of heads that lanes bring themselves: the widest of the batch, others are padded. */
  readonly heads: ReadonlyMap<string, number>;
}

/** Operand inputs of L lanes: [L, …] each. */
export interface AssembledLanes {
  readonly lanes: number;
  /** Slot name → data of L lanes, and the shape of one lane. */
  readonly operands: ReadonlyMap<
    string,
    { readonly data: Float32Array; readonly laneShape: readonly number[] }
  >;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

function rotatedWidth(slot: OperandSlot): number | null {
  if (slot.kind === 'rotation') return slot.inFeatures;
  return slot.kind === 'outputRotation' ? slot.outFeatures : null;
}

/**
 * The smallest e for every width that all rotations fit into (blocks divide the width, so their least common multiple
 * does), and the widest of each head. `adapters` are the batch's, null for base rows.
 */
export function commonSizes(
  slots: readonly OperandSlot[],
  adapters: readonly (AdapterOperands | null)[],
  minBlockSize = MIN_BLOCK_SIZE,
): LaneSizes {
  const blocks = new Map<number, number>();
  const heads = new Map<string, number>();
  const modules = adapters.map((adapter) => new Map(adapter?.modules.map((own) => [own.module, own])));
  for (const slot of slots) {
    const width = rotatedWidth(slot);
    const operands = modules.map((own) => own.get(slot.module));
    if (width !== null) {
      for (const own of operands) {
        const e = (slot.kind === 'rotation' ? own?.rotation : own?.outputRotation)?.blockSize ?? 1;
        const size = blocks.get(width) ?? 1;
        blocks.set(width, (size * e) / greatestCommonDivisor(size, e));
      }
    } else if (slot.kind === 'weight' && !slot.merged) {
      const widths = operands.map((own) =>
        own?.weight ? own.weight.length / slot.inFeatures : slot.outFeatures,
      );
      heads.set(slot.module, Math.max(...widths));
    }
  }
  for (const [width, e] of blocks) blocks.set(width, servedBlockSize(width, e, minBlockSize));
  return { blocks, heads };
}

/** Blocks smaller than this cost more to transpose than they save in products. */
const MIN_BLOCK_SIZE = 16;
/** The same for lanes of many tokens, where assembling larger blocks is soon paid for. */
const MIN_BLOCK_SIZE_LONG = 32;
const LONG_TOKENS = 64;

/** What to ask of `commonSizes` for lanes of so many tokens. */
export function minBlockSize(lanes: number, tokens: number): number {
  return lanes > 1 && tokens >= LONG_TOKENS ? MIN_BLOCK_SIZE_LONG : MIN_BLOCK_SIZE;
}

/** The smallest multiple of e that divides the width and is no smaller than is worth its while; else e. */
function servedBlockSize(width: number, e: number, min: number): number {
  for (let size = e; size <= 4 * min && size <= width; size += e) {
    if (size >= min && width % size === 0) return size;
  }
  return e === 1 ? width : e;
}

function identityBlocks(width: number, e: number): Float32Array {
  const blocks = new Float32Array(width * e);
  for (let row = 0; row < width; row++) blocks[row * e + (row % e)] = 1;
  return blocks;
}

/** n of a slot's operand: the module's, or the widest head's. */
function resultWidth(slot: OperandSlot, sizes: LaneSizes): number {
  return sizes.heads.get(slot.module) ?? slot.outFeatures;
}

function laneShape(slot: OperandSlot, sizes: LaneSizes): number[] {
  const rotated = rotatedWidth(slot);
  if (rotated !== null) {
    const e = sizes.blocks.get(rotated) ?? 1;
    return [rotated / e, e, e];
  }
  return slot.kind === 'weight' ? [resultWidth(slot, sizes), slot.inFeatures] : [1, resultWidth(slot, sizes)];
}

/** Values with `fill` behind them up to `length`. */
function padded(values: Float32Array, length: number, fill: number): Float32Array {
  if (values.length === length) return values;
  const result = new Float32Array(length).fill(fill);
  result.set(values);
  return result;
}

/** Identities, ones and zeros by size, shared by all lanes that need them. */
class Neutral {
  private readonly arrays = new Map<string, Float32Array>();
  private readonly all = new Set<Float32Array>();

  get(key: string, make: () => Float32Array): Float32Array {
    let array = this.arrays.get(key);
    if (!array) {
      array = make();
      this.arrays.set(key, array);
      this.all.add(array);
    }
    return array;
  }

  has(array: Float32Array): boolean {
    return this.all.has(array);
  }
}

interface Bank {
  readonly capacity: number;
  /** Adapter key of each lane; undefined: never filled. */
  readonly keys: (string | null | undefined)[];
  readonly data: ReadonlyMap<string, Float32Array>;
}

/** Bytes of operands that a plan keeps in its own form beside the adapters' own arrays. */
const MAX_SINGLE_BYTES = 128 * 1024 * 1024;

/** Banks kept per plan: one for each combination of block sizes seen lately. */
const BANKS = 3;

export class LaneAssembler {
  private readonly neutral = new Neutral();
  /** Operands of one adapter in a plan's form, by `blocks|key`. */
  private readonly single = new LRUCache<string, ReadonlyMap<string, Float32Array>>({
    maxSize: MAX_SINGLE_BYTES,
    sizeCalculation: (lane, id) => this.ownedBytes(lane, id),
  });
  private readonly banks = new Map<string, Bank>();

  constructor(
    readonly slots: readonly OperandSlot[],
    private readonly base: BaseOperands,
    private readonly adapters: ReadonlyMap<string, AdapterOperands>,
  ) {}

  /** Forgets an adapter that is no longer resident. */
  forget(key: string): void {
    for (const id of this.single.keys()) if (id.endsWith(`|${key}`)) this.single.delete(id);
    for (const bank of this.banks.values()) {
      for (let lane = 0; lane < bank.keys.length; lane++)
        if (bank.keys[lane] === key) bank.keys[lane] = undefined;
    }
  }

  /** Operands for one lane per entry of `keys` (null: the base's). Views stay valid until the next call. */
  assemble(keys: readonly (string | null)[], sizes: LaneSizes): AssembledLanes {
    const first = keys.at(0);
    if (keys.length === 1 && first !== undefined) return this.view(1, sizes, this.laneOf(first, sizes));
    const bank = this.bank(keys.length, sizes);
    for (const [lane, key] of keys.entries()) {
      if (bank.keys[lane] === key) continue;
      const source = this.laneOf(key, sizes);
      for (const slot of this.slots) {
        const from = source.get(slot.name);
        if (from) bank.data.get(slot.name)?.set(from, lane * from.length);
      }
      bank.keys[lane] = key;
    }
    return this.view(keys.length, sizes, bank.data);
  }

  private view(lanes: number, sizes: LaneSizes, data: ReadonlyMap<string, Float32Array>): AssembledLanes {
    const operands = new Map<string, { data: Float32Array; laneShape: number[] }>();
    for (const slot of this.slots) {
      const shape = laneShape(slot, sizes);
      const length = lanes * shape.reduce((product, size) => product * size, 1);
      const array = data.get(slot.name);
      if (array) operands.set(slot.name, { data: array.subarray(0, length), laneShape: shape });
    }
    return { lanes, operands };
  }

  private bank(lanes: number, sizes: LaneSizes): Bank {
    const id = sizesId(sizes);
    let bank = this.banks.get(id);
    this.banks.delete(id);
    if (!bank || bank.capacity < lanes) {
      const capacity = 2 ** Math.ceil(Math.log2(lanes));
      const data = new Map<string, Float32Array>();
      for (const slot of this.slots) {
        const size = laneShape(slot, sizes).reduce((product, n) => product * n, 1);
        data.set(slot.name, new Float32Array(capacity * size));
      }
      bank = { capacity, keys: new Array<undefined>(capacity).fill(undefined), data };
    }
    this.banks.set(id, bank);
    for (const oldest of this.banks.keys()) {
      if (this.banks.size <= BANKS) break;
      this.banks.delete(oldest);
    }
    return bank;
  }

  /** One lane's operands; the adapter's own arrays wherever their form fits. */
  private laneOf(key: string | null, sizes: LaneSizes): ReadonlyMap<string, Float32Array> {
    const id = `${sizesId(sizes)}|${key ?? ''}`;
    const known = this.single.get(id);
    if (known) return known;
    const adapter = key === null ? undefined : this.adapters.get(key);
    const modules = new Map<string, ModuleOperands>(adapter?.modules.map((m) => [m.module, m]));
    const lane = new Map<string, Float32Array>();
    for (const slot of this.slots) lane.set(slot.name, this.operand(slot, modules.get(slot.module), sizes));
    this.single.set(id, lane);
    return lane;
  }

  /** Bytes of arrays that belong neither to the adapter nor to all lanes. */
  private ownedBytes(lane: ReadonlyMap<string, Float32Array>, id: string): number {
    const adapter = this.adapters.get(id.slice(id.indexOf('|') + 1));
    const borrowed = new Set<Float32Array | undefined>(
      adapter?.modules.flatMap(({ rotation, outputRotation, scale, bias, weight }) => [
        rotation?.blocks,
        outputRotation?.blocks,
        scale,
        bias,
        weight,
      ]),
    );
    let bytes = 1;
    for (const array of lane.values()) {
      if (!borrowed.has(array) && !this.neutral.has(array)) bytes += array.byteLength;
    }
    return bytes;
  }

  private merge(slot: OperandSlot, { rotation, scale, weight }: ModuleOperands): Float32Array {
    const blocks = rotation ? { size: rotation.blockSize, data: rotation.blocks } : null;
    return mergeWeight(weight ?? this.base.weight(slot.module), slot.outFeatures, blocks, scale ?? null);
  }

  private operand(slot: OperandSlot, own: ModuleOperands | undefined, sizes: LaneSizes): Float32Array {
    const { module, inFeatures: d } = slot;
    const n = resultWidth(slot, sizes);
    const zeros = (): Float32Array => this.neutral.get(`zeros:${n}`, () => new Float32Array(n));
    switch (slot.kind) {
      case 'rotation':
        return this.rotation(own?.rotation, d, sizes);
      case 'outputRotation':
        return this.rotation(own?.outputRotation, slot.outFeatures, sizes);
      case 'scale':
        if (!own?.scale) return this.neutral.get(`ones:${n}`, () => new Float32Array(n).fill(1));
        return padded(own.scale, n, 1);
      case 'shift': {
        const frozen = this.base.bias(module);
        if (!own?.bias) return zeros();
        return padded(
          own.bias.map((value, i) => value - (frozen?.[i] ?? 0)),
          n,
          0,
        );
      }
      case 'bias': {
        const bias = own?.bias ?? this.base.bias(module);
        return bias ? padded(bias, n, 0) : zeros();
      }
      case 'weight': {
        if (slot.merged && own) return this.merge(slot, own);
        const weight = own?.weight ?? this.neutral.get(`weight:${module}`, () => this.base.weight(module));
        return padded(weight, n * d, 0);
      }
    }
  }

  private rotation(own: Rotation | undefined, width: number, sizes: LaneSizes): Float32Array {
    const e = sizes.blocks.get(width) ?? 1;
    if (!own) return this.neutral.get(`eye:${width}:${e}`, () => identityBlocks(width, e));
    return own.blockSize === e
      ? own.blocks
      : embedBlocks(own.blocks, width / own.blockSize, own.blockSize, e);
  }
}

function sizesId({ blocks, heads }: LaneSizes): string {
  return [...blocks, ...heads].map(([name, size]) => `${name}:${size}`).join(',');
}
