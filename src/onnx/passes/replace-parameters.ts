/**
 * Replaces the parameters of modules by given ones, in a model as exported; everything else keeps its weights, also
 * where an exporter had merged equal ones (tied embeddings, shared biases): a replaced parameter gets a tensor of its
 * own, read by its module alone.
 *
 * Requires: float weights. Ensures: each named module computes with the given weight [n', d] and bias [n']; outputs
 * whose width changed say so; what nothing reads any more is gone.
 * Rules: 1. MatMul, Gemm: the second input, in the orientation that the node wants. 2. Conv: the second input, in the
 * kernel's shape. 3. Gather: the table. 4. bias: where the module has it (`locateBias`); a module without one gets it
 * as Gemm's C or Conv's third input, else as an Add behind it. 5. a quantised weight is refused: requantising would be
 * another model.
 */
import { PapillonError } from '../../errors.js';
import type { NodeProto, TensorProto } from '../gen/onnx_pb.js';
import { GraphIndex, intAttribute, makeNode } from '../graph.js';
import { ELEM, tensorDims, tensorOf } from '../model.js';
import type { OnnxModel } from '../model.js';
import type { GraphModule, ModuleUse } from '../modules.js';
import { BIAS_ADDERS } from '../modules.js';
import { PRODUCT_OPERATORS } from '../product-operators.js';
import { Pruner } from './prune.js';

export interface NewParameters {
  /** [n', d] row-major, in place of the frozen tensor (before a Gemm's α). */
  readonly weight?: Float32Array;
  /** [n']. */
  readonly bias?: Float32Array;
}

const FLOAT_TYPES: readonly number[] = [ELEM.FLOAT, ELEM.FLOAT16, ELEM.DOUBLE];
const LARGEST_FLOAT16 = 65504;
/** Where these operators take their weight. */
const WEIGHT_INPUT: Readonly<Partial<Record<string, number>>> = {
  MatMul: 1,
  Gemm: 1,
  FusedGemm: 1,
  Conv: 1,
  Gather: 0,
};
/** Where operators beside the products take a bias of their own. */
const BIAS_INPUT: Readonly<Partial<Record<string, number>>> = { Conv: 2, LayerNormalization: 2 };

/** An input of a node. */
interface Slot {
  readonly node: NodeProto;
  readonly at: number;
}

/** A tensor in the making: its name is chosen once it is known which old names are free. */
interface Placed {
  readonly tensor: TensorProto;
  readonly slots: Slot[];
  readonly names: readonly string[];
}

/** [rows, columns] row-major → [columns, rows]. */
export function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j] as number;
  }
  return result;
}

function quantised(name: string): PapillonError {
  return new PapillonError(
    'BASE_UNSUPPORTED',
    `'${name}' has a quantised weight: merging would requantise it into another model. Merge into the float32 or float16 model`,
  );
}

class Replacer {
  private readonly index: GraphIndex;
  private readonly placed = new Map<string, Placed>();
  private readonly pruner: Pruner;

  constructor(private readonly model: OnnxModel) {
    this.index = new GraphIndex(model.graph);
    this.pruner = new Pruner(model.graph);
  }

  replace(module: GraphModule, parameters: NewParameters): void {
    for (const use of module.uses) {
      const node = this.index.producers.get(use.value);
      if (!node) throw new PapillonError('INTERNAL', `no node computes '${module.name}'`);
      if (parameters.weight) this.replaceWeight(module, node, use, parameters.weight);
      if (parameters.bias) this.replaceBias(module, node, use, parameters.bias);
    }
  }

  /** Names the new tensors and drops what nothing reads any more. */
  finish(): void {
    const { graph } = this.model;
    this.pruner.prune();
    const taken = this.pruner.names();
    for (const { tensor, slots, names } of this.placed.values()) {
      const free = (name: string): boolean => name !== '' && !taken.has(name);
      const [last = 'papillon.merged'] = names.slice(-1);
      let name = names.find(free);
      for (let number = 1; name === undefined; number++)
        name = free(`${last}_${number}`) ? `${last}_${number}` : undefined;
      taken.add(name);
      tensor.name = name;
      for (const { node, at } of slots) node.input[at] = name;
      graph.initializer.push(tensor);
    }
  }

  private replaceWeight(module: GraphModule, node: NodeProto, use: ModuleUse, weight: Float32Array): void {
    const { name, inFeatures, weight: frozen } = module;
    const at = WEIGHT_INPUT[node.opType];
    const type = at === undefined ? undefined : this.elementType(node.input[at] ?? '');
    if (!frozen || at === undefined || type === undefined) throw quantised(name);
    const rows = weight.length / inFeatures;
    const isLinear = node.opType !== 'Conv' && node.opType !== 'Gather';
    const isTurned = isLinear && intAttribute(node, 'transB', 0) === 0;
    const dims = isTurned ? [inFeatures, rows] : [rows, inFeatures];
    if (node.opType === 'Conv') dims.splice(1, 1, ...tensorDims(frozen.tensor).slice(1));
    this.place(module, { node, at }, type, isTurned ? 'weight in-out' : 'weight', () =>
      tensorOf('', dims, isTurned ? transpose(weight, rows, inFeatures) : weight, type),
    );
    if (module.kind === 'linear') this.widen([use.value, use.biased], rows);
  }

  private replaceBias(module: GraphModule, node: NodeProto, use: ModuleUse, bias: Float32Array): void {
    const slot = this.locateBias(module, node, use) ?? this.makeRoom(node, use);
    const type = this.elementType(slot.node.input[slot.at] ?? '') ?? this.resultType(node);
    if (slot.node.opType === 'Gemm' || slot.node.opType === 'FusedGemm') {
      // The bias is given as it is to be added.
      slot.node.attribute = slot.node.attribute.filter((attribute) => attribute.name !== 'beta');
    }
    this.place(module, slot, type, 'bias', () => tensorOf('', [bias.length], bias, type));
    if (module.kind === 'linear') this.widen([use.value, use.biased], bias.length);
  }

  /** The input that holds a module's bias: of its own node, of the Add behind it, or of what an optimiser made of it. */
  private locateBias(module: GraphModule, node: NodeProto, { value, biased }: ModuleUse): Slot | undefined {
    const own = ownBiasInput(node);
    if (own !== undefined && node.input[own]) return { node, at: own };
    const add = biased === null ? undefined : this.index.producers.get(biased);
    if (add) return { node: add, at: add.input[0] === value ? 1 : 0 };
    if (module.kind === 'normalization' && own === undefined) {
      const at = node.input.findIndex((name) => this.index.constant(name));
      return at < 0 ? undefined : { node, at };
    }
    const readers = this.index.consumers.get(value) ?? [];
    const [reader] = readers;
    const at = reader && readers.length === 1 ? BIAS_ADDERS[reader.opType] : undefined;
    if (!reader || at === undefined || reader.input[0] !== value || !reader.input[at]) return undefined;
    return { node: reader, at };
  }

  /** A place for the bias of a module that has none. */
  private makeRoom(node: NodeProto, { value }: ModuleUse): Slot {
    const own = ownBiasInput(node);
    if (own !== undefined) {
      while (node.input.length <= own) node.input.push('');
      return { node, at: own };
    }
    const { graph } = this.model;
    const product = this.pruner.newName(`${value}.product`);
    node.output[node.output.indexOf(value)] = product;
    const add = makeNode('Add', [product, ''], [value], { name: this.pruner.newName(`${value}.bias`) });
    graph.node.splice(graph.node.indexOf(node) + 1, 0, add);
    return { node: add, at: 1 };
  }

  /** Puts a tensor into an input; equal uses of a module share one. */
  private place(module: GraphModule, slot: Slot, type: number, what: string, make: () => TensorProto): void {
    const frozen = slot.node.input[slot.at] ?? '';
    const key = `${module.name} ${what} ${type}`;
    let placed = this.placed.get(key);
    if (!placed) {
      const tensor = make();
      checkRange(module, tensor);
      const parameter = `${module.name}.${what.startsWith('weight') ? 'weight' : 'bias'}`;
      const name = this.index.constant(frozen)?.name ?? '';
      placed = { tensor, slots: [], names: [this.index.initializers.has(name) ? name : '', parameter] };
      this.placed.set(key, placed);
    }
    placed.slots.push(slot);
    slot.node.input[slot.at] = '';
    this.pruner.release(frozen);
  }

  /** Element type of a constant float as its reader sees it. Undefined for others, dequantised ones too. */
  private elementType(name: string): number | undefined {
    let current = name;
    for (let depth = 0; depth < 16; depth++) {
      const initializer = this.index.initializers.get(current);
      const producer = this.index.producers.get(current);
      const constant = initializer ?? producer?.attribute.find((attribute) => attribute.name === 'value')?.t;
      const type = producer?.opType === 'Cast' ? intAttribute(producer, 'to', 0) : constant?.dataType;
      if (type !== undefined) return FLOAT_TYPES.includes(type) ? type : undefined;
      if (producer?.opType !== 'Identity' && producer?.opType !== 'Transpose') return undefined;
      current = producer.input[0] ?? '';
    }
    return undefined;
  }

  /** Element type of what a product gives: that of its float weight, or of the scales of a quantised one. */
  private resultType(node: NodeProto): number {
    const types = node.input.map((name) => this.elementType(name));
    return types.find((type) => type !== undefined) ?? ELEM.FLOAT;
  }

  /** Values that are declared to be as wide as the module was. */
  private widen(values: readonly (string | null)[], width: number): void {
    const { output, valueInfo } = this.model.graph;
    for (const info of [...output, ...valueInfo]) {
      const last = info.type?.tensorType?.shape?.dim.at(-1);
      if (values.includes(info.name) && last && last.dimValue > 0n) last.dimValue = BigInt(width);
    }
  }
}

function ownBiasInput(node: NodeProto): number | undefined {
  return PRODUCT_OPERATORS[node.opType]?.biasInput ?? BIAS_INPUT[node.opType];
}

/** float16 ends at 65504, where a merged weight may not. */
function checkRange(module: GraphModule, { dataType, rawData }: TensorProto): void {
  if (dataType !== ELEM.FLOAT16) return;
  const halves = new Uint16Array(rawData.buffer, rawData.byteOffset, rawData.byteLength / 2);
  if (halves.every((bits) => (bits & 0x7c00) !== 0x7c00)) return;
  throw new PapillonError(
    'ADAPTER_NOT_FINITE',
    `the merged parameters of '${module.name}' exceed float16 (±${LARGEST_FLOAT16}): merge into the float32 model`,
  );
}

/** Edits `model`; each module is one of its own. */
export function replaceParameters(
  model: OnnxModel,
  replacements: Iterable<readonly [GraphModule, NewParameters]>,
): void {
  const replacer = new Replacer(model);
  for (const [module, parameters] of replacements) replacer.replace(module, parameters);
  replacer.finish();
}
