/**
 * Assembles the operands of a plan for the lanes of a batch, and keeps what it assembled: a lane whose adapter did
 * not change since the last batch of its kind costs nothing.
 */
import { embedBlocks, mergeWeight } from '../math/index.js';
import type { OperandKind } from '../onnx/plan.js';
import type { AdapterOperands, ModuleOperands } from '../types.js';

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

/** Block size e by input width d: all rotations of one width in a batch share it. */
export type BlockSizes = ReadonlyMap<number, number>;

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

/** The smallest e for every width that all adapters' blocks fit into (divisors of d, so their lcm divides d). */
export function commonBlockSizes(
  slots: readonly OperandSlot[],
  adapters: readonly AdapterOperands[],
): BlockSizes {
  const widths = new Map<string, number>();
  for (const slot of slots) if (slot.kind === 'rotation') widths.set(slot.module, slot.inFeatures);
  const sizes = new Map<number, number>();
  for (const width of widths.values()) sizes.set(width, 1);
  for (const adapter of adapters) {
    for (const module of adapter.modules) {
      const width = widths.get(module.module);
      if (width === undefined || !module.rotation) continue;
      const size = sizes.get(width) ?? 1;
      const e = module.rotation.blockSize;
      sizes.set(width, (size * e) / greatestCommonDivisor(size, e));
    }
  }
  for (const [width, e] of sizes) if (e === 1) sizes.set(width, idleBlockSize(width));
  return sizes;
}

/** Blocks of a width that no adapter of the batch rotates: transpositions by single floats would be slow. */
function idleBlockSize(width: number): number {
  let e = Math.min(16, width);
  while (width % e !== 0) e -= 1;
  return e;
}

function identityBlocks(width: number, e: number): Float32Array {
  const blocks = new Float32Array(width * e);
  for (let row = 0; row < width; row++) blocks[row * e + (row % e)] = 1;
  return blocks;
}

function laneShape(slot: OperandSlot, sizes: BlockSizes): number[] {
  switch (slot.kind) {
    case 'rotation': {
      const e = sizes.get(slot.inFeatures) ?? 1;
      return [slot.inFeatures / e, e, e];
    }
    case 'weight':
      return [slot.outFeatures, slot.inFeatures];
    default:
      return [1, slot.outFeatures];
  }
}

/** Identities, ones and zeros by size, shared by all lanes that need them. */
class Neutral {
  private readonly arrays = new Map<string, Float32Array>();

  get(key: string, make: () => Float32Array): Float32Array {
    let array = this.arrays.get(key);
    if (!array) {
      array = make();
      this.arrays.set(key, array);
    }
    return array;
  }
}

interface Bank {
  readonly capacity: number;
  /** Adapter key of each lane; undefined: never filled. */
  readonly keys: (string | null | undefined)[];
  readonly data: ReadonlyMap<string, Float32Array>;
}

/** Banks kept per plan: one for each combination of block sizes seen lately. */
const BANKS = 3;

export class LaneAssembler {
  private readonly neutral = new Neutral();
  /** Operands of one adapter in a plan's form, by `blocks|key`. */
  private readonly single = new Map<string, ReadonlyMap<string, Float32Array>>();
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
  assemble(keys: readonly (string | null)[], sizes: BlockSizes): AssembledLanes {
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

  private view(lanes: number, sizes: BlockSizes, data: ReadonlyMap<string, Float32Array>): AssembledLanes {
    const operands = new Map<string, { data: Float32Array; laneShape: number[] }>();
    for (const slot of this.slots) {
      const shape = laneShape(slot, sizes);
      const length = lanes * shape.reduce((product, size) => product * size, 1);
      const array = data.get(slot.name);
      if (array) operands.set(slot.name, { data: array.subarray(0, length), laneShape: shape });
    }
    return { lanes, operands };
  }

  private bank(lanes: number, sizes: BlockSizes): Bank {
    const id = blocksId(sizes);
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
  private laneOf(key: string | null, sizes: BlockSizes): ReadonlyMap<string, Float32Array> {
    const id = `${blocksId(sizes)}|${key ?? ''}`;
    const known = this.single.get(id);
    if (known) return known;
    const adapter = key === null ? undefined : this.adapters.get(key);
    const modules = new Map<string, ModuleOperands>(adapter?.modules.map((m) => [m.module, m]));
    const lane = new Map<string, Float32Array>();
    for (const slot of this.slots) lane.set(slot.name, this.operand(slot, modules.get(slot.module), sizes));
    this.single.set(id, lane);
    return lane;
  }

  private merge(slot: OperandSlot, { rotation, scale, weight }: ModuleOperands): Float32Array {
    const blocks = rotation ? { size: rotation.blockSize, data: rotation.blocks } : null;
    return mergeWeight(weight ?? this.base.weight(slot.module), slot.outFeatures, blocks, scale ?? null);
  }

  private operand(slot: OperandSlot, own: ModuleOperands | undefined, sizes: BlockSizes): Float32Array {
    const { inFeatures: d, outFeatures: n } = slot;
    switch (slot.kind) {
      case 'rotation': {
        const e = sizes.get(d) ?? 1;
        if (!own?.rotation) return this.neutral.get(`eye:${d}:${e}`, () => identityBlocks(d, e));
        return own.rotation.blockSize === e
          ? own.rotation.blocks
          : embedBlocks(own.rotation.blocks, d / own.rotation.blockSize, own.rotation.blockSize, e);
      }
      case 'scale':
        return own?.scale ?? this.neutral.get(`ones:${n}`, () => new Float32Array(n).fill(1));
      case 'shift': {
        const frozen = this.base.bias(slot.module);
        if (!own?.bias) return this.neutral.get(`zeros:${n}`, () => new Float32Array(n));
        return own.bias.map((value, i) => value - (frozen?.[i] ?? 0));
      }
      case 'weight':
        if (slot.merged && own) return this.merge(slot, own);
        return own?.weight ?? this.neutral.get(`weight:${slot.module}`, () => this.base.weight(slot.module));
    }
  }
}

function blocksId(sizes: BlockSizes): string {
  return [...sizes].map(([width, e]) => `${width}:${e}`).join(',');
}
