/**
 * Finds the layers of a graph that adapters can name: linear layers (MatMul or Gemm with a constant weight), 2-D
 * convolutions, and other modules with a bias of their own (normalizations), each with its torch path.
 *
 * Works on the model as exported; `locate.ts` follows what is found here into ONNX Runtime's optimised graph.
 */
import type { NodeProto, TensorProto } from './gen/onnx_pb.js';
import { GraphIndex, floatAttribute, intAttribute } from './graph.js';
import { readFloats, tensorBytes, tensorDims } from './model.js';
import type { OnnxModel } from './model.js';
import { moduleFromParameter, moduleFromPath, moduleFromScopes, withoutUseSuffix } from './module-names.js';

export interface GraphModule {
  /** Torch path. */
  readonly name: string;
  readonly kind: 'linear' | 'convolution' | 'normalization';
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Names of the values that its uses compute: a product before the bias, or a normalization's result. */
  readonly values: readonly string[];
  /** What the base adds behind the product [outFeatures] (Gemm: β·C), or null. */
  readonly bias: Float32Array | null;
  /** The weight's tensor in the exported graph; `transposed` when it is stored as [out, in]. Linear only. */
  readonly weight: { readonly tensor: TensorProto; readonly storedOutIn: boolean } | null;
}

interface Candidate {
  readonly name: string;
  readonly kind: GraphModule['kind'];
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly value: string;
  readonly biasTensor: TensorProto | undefined;
  /** Gemm's β. */
  readonly biasFactor: number;
  readonly weight: GraphModule['weight'];
}

/** [size], or [1, …, size]. */
function isVector(tensor: TensorProto | undefined, size: number): tensor is TensorProto {
  if (tensor === undefined) return false;
  const dims = tensorDims(tensor);
  return dims.at(-1) === size && dims.slice(0, -1).every((dim) => dim === 1);
}

/** The bias that an Add behind the product adds, with its name in the graph. */
function biasBehind(
  index: GraphIndex,
  value: string,
  size: number,
): { readonly tensor: TensorProto; readonly name: string; readonly add: NodeProto } | undefined {
  const readers = index.consumers.get(value) ?? [];
  const add = readers.length === 1 ? readers[0] : undefined;
  if (add?.opType !== 'Add') return undefined;
  const other = add.input[0] === value ? add.input[1] : add.input[0];
  const tensor = other === undefined ? undefined : index.constant(other);
  return isVector(tensor, size) && other !== undefined ? { tensor, name: other, add } : undefined;
}

function linearCandidate(index: GraphIndex, node: NodeProto): Candidate | undefined {
  const [, weightName, gemmBias] = node.input;
  const value = node.output[0];
  if (weightName === undefined || value === undefined) return undefined;
  const weight = index.constantMatrix(weightName);
  if (weight?.tensor.dims.length !== 2) return undefined;
  const [rows, columns] = tensorDims(weight.tensor) as [number, number];
  const storedOutIn = weight.transposed !== (node.opType === 'Gemm' && intAttribute(node, 'transB', 0) === 1);
  const inFeatures = storedOutIn ? columns : rows;
  const outFeatures = storedOutIn ? rows : columns;
  const behind = node.opType === 'MatMul' ? biasBehind(index, value, outFeatures) : undefined;
  const gemmTensor = node.opType === 'Gemm' && gemmBias ? index.constant(gemmBias) : undefined;
  const biasTensor = behind?.tensor ?? (isVector(gemmTensor, outFeatures) ? gemmTensor : undefined);
  const name =
    moduleFromScopes(node) ??
    (behind ? moduleFromScopes(behind.add) : undefined) ??
    moduleFromPath(node.name) ??
    moduleFromParameter(weight.tensor.name) ??
    moduleFromParameter(behind?.name ?? gemmBias ?? '');
  if (name === undefined) return undefined;
  return {
    name,
    kind: 'linear',
    inFeatures,
    outFeatures,
    value,
    biasTensor,
    biasFactor: gemmTensor ? floatAttribute(node, 'beta', 1) : 1,
    weight: { tensor: weight.tensor, storedOutIn },
  };
}

/** A 2-D convolution without groups; its weight is seen as [out, in·kh·kw]. */
function convolutionCandidate(index: GraphIndex, node: NodeProto): Candidate | undefined {
  const [, weightName, biasName] = node.input;
  const value = node.output[0];
  const tensor = weightName === undefined ? undefined : index.constant(weightName);
  if (value === undefined || tensor?.dims.length !== 4 || intAttribute(node, 'group', 1) !== 1)
    return undefined;
  const [outFeatures = 0, channels = 0, height = 0, width = 0] = tensorDims(tensor);
  const name = moduleFromScopes(node) ?? moduleFromPath(node.name) ?? moduleFromParameter(tensor.name);
  if (name === undefined) return undefined;
  return {
    name,
    kind: 'convolution',
    inFeatures: channels * height * width,
    outFeatures,
    value,
    biasTensor: biasName ? index.constant(biasName) : undefined,
    biasFactor: 1,
    weight: { tensor, storedOutIn: true },
  };
}

/** LayerNormalization, or the last Add of a decomposed one: `value + constant vector`, in a module of its own. */
function normalizationCandidate(index: GraphIndex, node: NodeProto): Candidate | undefined {
  const value = node.output[0];
  if (value === undefined) return undefined;
  const biasName =
    node.opType === 'LayerNormalization' ? node.input[2] : node.input.find((n) => index.constant(n));
  const biasTensor = biasName ? index.constant(biasName) : undefined;
  if (biasName === undefined || biasTensor?.dims.length !== 1) return undefined;
  const size = Number(biasTensor.dims[0]);
  const name = moduleFromScopes(node) ?? moduleFromPath(node.name) ?? moduleFromParameter(biasName);
  if (name === undefined || size < 2) return undefined;
  return {
    name,
    kind: 'normalization',
    inFeatures: size,
    outFeatures: size,
    value,
    biasTensor,
    biasFactor: 1,
    weight: null,
  };
}

function readBias(model: OnnxModel, { biasTensor, biasFactor }: Candidate): Float32Array | null {
  const bias = biasTensor ? readFloats(model, biasTensor) : null;
  return biasFactor === 1 ? bias : (bias?.map((value) => value * biasFactor) ?? null);
}

/** `query_1` is the second use of `query` when both read the same weight; `linear_1` may be a name of its own. */
function canonicalNames(candidates: readonly Candidate[]): Map<Candidate, string> {
  const byName = new Map<string, Candidate>();
  for (const candidate of candidates) if (!byName.has(candidate.name)) byName.set(candidate.name, candidate);
  const names = new Map<Candidate, string>();
  for (const candidate of candidates) {
    const shorter = withoutSuffixes(candidate.name).find((name) => {
      const first = byName.get(name);
      return first !== undefined && sameParameters(first, candidate);
    });
    names.set(candidate, shorter ?? candidate.name);
  }
  return names;
}

/** All ways to drop `_N` from parts of a path: a reused parent carries the suffix too (`layer_1.query`). */
function withoutSuffixes(name: string): string[] {
  let variants = [''];
  for (const part of name.split('.')) {
    const stripped = withoutUseSuffix(part);
    const choices = stripped === undefined ? [part] : [stripped, part];
    variants = variants.flatMap((head) =>
      choices.map((choice) => (head === '' ? choice : `${head}.${choice}`)),
    );
    if (variants.length > 64) return [];
  }
  return variants.filter((variant) => variant !== name);
}

function sameParameters(a: Candidate, b: Candidate): boolean {
  if (a.kind !== b.kind || a.outFeatures !== b.outFeatures) return false;
  return a.kind === 'normalization' ? a.biasTensor === b.biasTensor : a.weight?.tensor === b.weight?.tensor;
}

/**
 * Whether a later use under the very same name computes the same layer: exporters that fold each use's weight leave
 * copies of equal bytes.
 */
function isSameLayer(model: OnnxModel, a: Candidate, b: Candidate): boolean {
  if (sameParameters(a, b)) return true;
  if (a.kind !== 'linear' || b.kind !== 'linear' || !a.weight || !b.weight) return false;
  if (a.inFeatures !== b.inFeatures || a.outFeatures !== b.outFeatures) return false;
  if (a.weight.storedOutIn !== b.weight.storedOutIn) return false;
  if (a.weight.tensor.dataType !== b.weight.tensor.dataType) return false;
  return Buffer.compare(tensorBytes(model, a.weight.tensor), tensorBytes(model, b.weight.tensor)) === 0;
}

/** The modules of a model in graph order; several uses of one module are one entry with several values. */
export function findModules(model: OnnxModel): GraphModule[] {
  const index = new GraphIndex(model.graph);
  const linear: Candidate[] = [];
  for (const node of model.graph.node) {
    const isProduct = node.opType === 'MatMul' || node.opType === 'Gemm';
    const candidate = isProduct
      ? linearCandidate(index, node)
      : node.opType === 'Conv'
        ? convolutionCandidate(index, node)
        : undefined;
    if (candidate) linear.push(candidate);
  }
  const linearNames = new Set(linear.map((candidate) => candidate.name));
  const others: Candidate[] = [];
  for (const node of model.graph.node) {
    if (node.opType !== 'LayerNormalization' && node.opType !== 'Add') continue;
    const candidate = normalizationCandidate(index, node);
    if (candidate && !linearNames.has(candidate.name)) others.push(candidate);
  }
  const candidates = [...linear, ...others];
  const names = canonicalNames(candidates);
  const modules = new Map<string, { first: Candidate; values: string[] }>();
  for (const candidate of candidates) {
    const name = names.get(candidate) ?? candidate.name;
    const known = modules.get(name);
    if (known && isSameLayer(model, known.first, candidate)) known.values.push(candidate.value);
    else if (!known) modules.set(name, { first: candidate, values: [candidate.value] });
  }
  return [...modules].map(([name, { first, values }]) => ({
    name,
    kind: first.kind,
    inFeatures: first.inFeatures,
    outFeatures: first.outFeatures,
    values,
    bias: readBias(model, first),
    weight: first.weight,
  }));
}
