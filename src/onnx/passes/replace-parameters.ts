/**
 * Replaces the parameters of modules by given ones, in a model as exported; everything else keeps its weights, also
 * where an exporter had merged equal ones (tied embeddings, shared biases): a replaced parameter gets a tensor of its
 * own, read by its module alone.
 *
 * Requires: float32 or float16 weights. Ensures: each named module computes with the given weight [n', d] and bias
 * [n']; outputs whose width changed say so.
 * Rules: 1. MatMul, Gemm: the second input, in the orientation that the node wants. 2. Conv: the second input, in the
 * kernel's shape. 3. bias: Gemm's C (divided by β), Conv's third input, the Add behind a MatMul, LayerNormalization's
 * third input. 4. Gather: the table. 5. a quantised weight is refused: requantising would be another model.
 */
import { PapillonError } from '../../errors.js';
import type { NodeProto, TensorProto } from '../gen/onnx_pb.js';
import { GraphIndex, floatAttribute, intAttribute } from '../graph.js';
import { ELEM, tensorDims, tensorOf } from '../model.js';
import type { OnnxModel } from '../model.js';
import type { GraphModule } from '../modules.js';

export interface NewParameters {
  /** [n', d] row-major. */
  readonly weight?: Float32Array;
  /** [n']. */
  readonly bias?: Float32Array;
}

const FLOAT_TYPES: readonly number[] = [ELEM.FLOAT, ELEM.FLOAT16];

function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j] as number;
  }
  return result;
}

class Replacer {
  private readonly index: GraphIndex;

  constructor(private readonly model: OnnxModel) {
    this.index = new GraphIndex(model.graph);
  }

  replace(module: GraphModule, parameters: NewParameters): void {
    for (const use of module.uses) {
      const node = this.index.producers.get(use.value);
      if (!node) throw new PapillonError('INTERNAL', `no node computes '${module.name}'`);
      if (parameters.weight) this.replaceWeight(module, node, parameters.weight);
      if (parameters.bias) this.replaceBias(module, node, use.biased, parameters.bias);
    }
  }

  private replaceWeight(module: GraphModule, node: NodeProto, weight: Float32Array): void {
    const { name, inFeatures, weight: frozen } = module;
    const type = frozen?.tensor.dataType ?? ELEM.FLOAT;
    if (
      !frozen ||
      !FLOAT_TYPES.includes(type) ||
      !['MatMul', 'Gemm', 'Conv', 'Gather'].includes(node.opType)
    ) {
      throw new PapillonError(
        'BASE_UNSUPPORTED',
        `'${name}' has a quantised weight: merging would requantise it into another model. Merge into the float model`,
      );
    }
    const rows = weight.length / inFeatures;
    const tensorName = `${name}.merged.weight`;
    if (node.opType === 'Gather') {
      node.input[0] = this.add(tensorOf(tensorName, [rows, inFeatures], weight, type));
    } else if (node.opType === 'Conv') {
      const dims = [rows, ...tensorDims(frozen.tensor).slice(1)];
      node.input[1] = this.add(tensorOf(tensorName, dims, weight, type));
    } else {
      const isOutIn = node.opType === 'Gemm' && intAttribute(node, 'transB', 0) === 1;
      const values = isOutIn ? weight : transpose(weight, rows, inFeatures);
      const dims = isOutIn ? [rows, inFeatures] : [inFeatures, rows];
      node.input[1] = this.add(tensorOf(tensorName, dims, values, type));
    }
    this.widen(node.output.at(0), rows);
  }

  private replaceBias(module: GraphModule, node: NodeProto, biased: string | null, bias: Float32Array): void {
    const tensorName = `${module.name}.merged.bias`;
    const add = biased === null ? undefined : this.index.producers.get(biased);
    const slot = node.opType === 'MatMul' ? null : 2;
    const target = slot === null ? add : node;
    const frozenName = target?.input.find((name, i) =>
      slot === null ? this.index.constant(name) : i === slot,
    );
    const at = target?.input.indexOf(frozenName ?? '') ?? -1;
    if (!target || at < 0) {
      throw new PapillonError(
        'ADAPTER_PART_UNSUPPORTED',
        `'${module.name}' has no bias in this model to replace`,
      );
    }
    const type = this.index.constant(frozenName ?? '')?.dataType ?? ELEM.FLOAT;
    const beta = node.opType === 'Gemm' ? floatAttribute(node, 'beta', 1) : 1;
    const values = beta === 1 ? bias : bias.map((value) => value / beta);
    target.input[at] = this.add(tensorOf(tensorName, [bias.length], values, type));
    this.widen(biased ?? undefined, bias.length);
  }

  private add(tensor: TensorProto): string {
    if (!this.model.graph.initializer.some(({ name }) => name === tensor.name)) {
      this.model.graph.initializer.push(tensor);
    }
    return tensor.name;
  }

  /** A graph output declares its width. */
  private widen(value: string | undefined, width: number): void {
    const output = this.model.graph.output.find(({ name }) => name === value);
    const last = output?.type?.tensorType?.shape?.dim.at(-1);
    if (last && Number(last.dimValue) > 0) last.dimValue = BigInt(width);
  }
}

export function replaceParameters(
  model: OnnxModel,
  modules: readonly GraphModule[],
  replacements: ReadonlyMap<string, NewParameters>,
): void {
  const replacer = new Replacer(model);
  for (const module of modules) {
    const parameters = replacements.get(module.name);
    if (parameters) replacer.replace(module, parameters);
  }
  // What nothing reads any more need not be written; graph outputs may be initializers.
  const read = new Set([
    ...model.graph.node.flatMap((node) => node.input),
    ...model.graph.output.map((output) => output.name),
    ...model.graph.node.flatMap((node) => subgraphInputs(node)),
  ]);
  model.graph.initializer = model.graph.initializer.filter((tensor) => read.has(tensor.name));
}

/** Values that the branches of If, Loop and Scan read from outside. */
function subgraphInputs(node: NodeProto): string[] {
  return node.attribute.flatMap(({ g }) =>
    g
      ? g.node
          .flatMap((inner) => [...inner.input, ...subgraphInputs(inner)])
          .concat(g.output.map((o) => o.name))
      : [],
  );
}
