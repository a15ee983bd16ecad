/**
 * Follows modules from the exported graph into ONNX Runtime's optimised one. Optimisers rename nodes, fold weights
 * and fuse biases, but the node that is left of a layer still computes a value that the export named: the product,
 * or the product plus bias.
 */
import type { NodeProto } from './gen/onnx_pb.js';
import { GraphIndex } from './graph.js';
import { tensorDims } from './model.js';
import type { OnnxModel } from './model.js';
import type { GraphModule, ModuleUse } from './modules.js';
import { PRODUCT_OPERATORS } from './product-operators.js';

/** A place in the optimised graph where a module's operands enter: the node that computes `value`. */
export interface Site {
  readonly module: string;
  readonly kind: GraphModule['kind'];
  readonly value: string;
  /** The value that the rotation acts on (linear), or the value itself (normalization). */
  readonly input: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** A convolution's kernel shape [n, c, kh, kw], else null. */
  readonly kernel: readonly number[] | null;
  /** A convolution over patches that do not overlap: it can be rotated in front. */
  readonly isPatches: boolean;
  /** The value after an Add of the bias of its own (not fused), else null. */
  readonly biased: string | null;
  /** Scale and zero point of a static quantiser between input and product, as the graph names them, else null. */
  readonly quantiser: readonly string[] | null;
  /** The frozen weight is integers: it can be rotated in front of, not read or merged into. */
  readonly quantised: boolean;
}

export interface Located {
  readonly sites: readonly Site[];
  /** Modules that the optimiser swallowed: they cannot be adapted in this graph. */
  readonly lost: readonly string[];
}

/** ONNX Runtime computes float16 layers in float32 on a CPU; the float32 value gets this in front of its name. */
const UPCAST = 'InsertedPrecisionFreeCast_';

/** The node that a use became, with the value it computes. */
function nodeOf(index: GraphIndex, use: ModuleUse): { node: NodeProto; value: string } | undefined {
  const names = [use.value, ...(use.biased === null ? [] : [use.biased])];
  for (const name of names.flatMap((value) => [`${UPCAST}${value}`, value])) {
    const node = index.producers.get(name);
    // The Add of the bias computes `biased` too, where it was not fused.
    if (
      node &&
      (name === use.value || name === `${UPCAST}${use.value}` || node.opType in PRODUCT_OPERATORS)
    ) {
      return { node, value: name };
    }
  }
  return undefined;
}

interface ReadValue {
  readonly input: string;
  readonly quantiser: readonly string[] | null;
}

/**
 * What a rotation in front of the node would act on. Quantisers are shared with other layers, so what counts is the
 * float value in front of them.
 */
function readValue(index: GraphIndex, node: NodeProto): ReadValue | undefined {
  const first = node.input.at(0);
  if (first === undefined) return undefined;
  const producer = index.producers.get(first);
  if (node.opType === 'MatMulIntegerToFloat') {
    const input = producer?.opType === 'DynamicQuantizeLinear' ? producer.input.at(0) : undefined;
    return input === undefined ? undefined : { input, quantiser: null };
  }
  const quantize =
    producer?.opType === 'DequantizeLinear' ? index.producers.get(producer.input[0] ?? '') : undefined;
  const input = quantize?.opType === 'QuantizeLinear' ? quantize.input.at(0) : undefined;
  if (quantize && input !== undefined) return { input, quantiser: quantize.input.slice(1) };
  return { input: first, quantiser: null };
}

/** The value of an Add of the bias that is still a node of its own. */
function addedBias(index: GraphIndex, { biased }: ModuleUse): string | null {
  return biased !== null && index.producers.get(biased)?.opType === 'Add' ? biased : null;
}

/** Whether a Conv's stride is its kernel, without padding or dilation. */
function readsPatches(node: NodeProto, [, , kh = 0, kw = 0]: readonly number[]): boolean {
  const ints = (name: string): number[] | undefined =>
    node.attribute.find((attribute) => attribute.name === name)?.ints.map(Number);
  const padding = node.attribute.find(({ name }) => name === 'auto_pad')?.s;
  const isAutomatic =
    padding !== undefined && !['NOTSET', 'VALID'].includes(new TextDecoder().decode(padding));
  const [rows = 1, columns = 1] = ints('strides') ?? [];
  return (
    rows === kh &&
    columns === kw &&
    !isAutomatic &&
    (ints('pads') ?? []).every((pad) => pad === 0) &&
    (ints('dilations') ?? []).every((dilation) => dilation === 1)
  );
}

function siteOf(index: GraphIndex, module: GraphModule, use: ModuleUse): Site | undefined {
  const found = nodeOf(index, use);
  if (!found) return undefined;
  const { node, value } = found;
  const { kind, inFeatures, outFeatures, name } = module;
  const shared = {
    module: name,
    kind,
    value,
    inFeatures,
    outFeatures,
    biased: null,
    quantiser: null,
    isPatches: false,
  };
  switch (kind) {
    case 'normalization':
      return { ...shared, input: value, kernel: null, quantised: false };
    case 'embedding': {
      if (node.opType !== 'Gather') return undefined;
      return { ...shared, input: value, kernel: null, quantised: false };
    }
    case 'convolution': {
      const [input, kernel] = [node.input.at(0), node.input.at(1)];
      const weight = kernel === undefined ? undefined : index.constant(kernel);
      if (node.opType !== 'Conv' || weight?.dims.length !== 4 || input === undefined) return undefined;
      return {
        ...shared,
        input,
        kernel: tensorDims(weight),
        isPatches: readsPatches(node, tensorDims(weight)),
        quantised: false,
      };
    }
    case 'linear': {
      const operator = PRODUCT_OPERATORS[node.opType];
      const read = operator ? readValue(index, node) : undefined;
      if (!operator || !read) return undefined;
      const isFused = value !== use.value && value !== `${UPCAST}${use.value}`;
      const biased = isFused ? null : addedBias(index, use);
      const weight = node.input.at(1);
      const isFloat = weight !== undefined && index.constant(weight) !== undefined;
      return { ...shared, ...read, biased, kernel: null, quantised: operator.quantised || !isFloat };
    }
  }
}

export function locateSites(optimised: OnnxModel, modules: readonly GraphModule[]): Located {
  const index = new GraphIndex(optimised.graph);
  const sites: Site[] = [];
  const lost: string[] = [];
  for (const module of modules) {
    const found = module.uses.map((use) => siteOf(index, module, use)).filter((site) => site !== undefined);
    // Part of a module's uses would be a different function: all or none.
    if (found.length === module.uses.length) sites.push(...found);
    else lost.push(module.name);
  }
  return { sites, lost };
}
