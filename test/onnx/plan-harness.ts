/**
 * Runs one site's compiled plan in a real session, feeding operands assembled here by the plain definition (dense
 * rotations cut into the batch's common blocks), independently of src/runtime.
 */
import * as ort from 'onnxruntime-node';
import { locateSites } from '#dist/onnx/locate.js';
import { encodeModel } from '#dist/onnx/model.js';
import type { OnnxModel } from '#dist/onnx/model.js';
import { findModules } from '#dist/onnx/modules.js';
import { LANES_INPUT, blocksInput, compilePlan, operandInput } from '#dist/onnx/plan.js';
import type { LaneForm, OperandKind, ShapedSite } from '#dist/onnx/plan.js';
import type { ModuleOperands } from '#dist/types.js';
import { denseRotation } from '../reference/linear-site.js';
import type { ModelProto } from '../support/tiny-models.js';

export function asModel(proto: ModelProto): OnnxModel {
  if (!proto.graph) throw new Error('a model without graph');
  return { proto, graph: proto.graph, folder: '.' };
}

/** The sites of a model as exported, all of the given rank. */
export function sitesOf(model: OnnxModel, rank: number): ShapedSite[] {
  const { sites } = locateSites(model, findModules(model));
  return sites.map((site) => ({ ...site, rank, separable: true, half: false }));
}

export function kindsOf(operands: readonly ModuleOperands[]): Set<OperandKind> {
  const kinds = new Set<OperandKind>();
  for (const own of operands) {
    if (own.rotation) kinds.add('rotation');
    if (own.outputRotation) kinds.add('outputRotation');
    if (own.scale) kinds.add('scale');
    if (own.bias) kinds.add('shift');
    if (own.weight) kinds.add('weight');
  }
  return kinds;
}

export interface BaseParameters {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly weight: Float32Array;
  readonly bias: Float32Array | null;
}

/** Plan inputs of one module for lanes whose operands are given in order ({ module } alone: the base's lane). */
export function laneFeeds(
  module: string,
  base: BaseParameters,
  lanes: readonly ModuleOperands[],
  e: number,
): Record<string, ort.Tensor> {
  const { inFeatures: d, outFeatures: n } = base;
  const stack = (parts: ArrayLike<number>[], shape: number[]): ort.Tensor => {
    const data = Float32Array.from(parts.flatMap((part) => Array.from(part)));
    return new ort.Tensor('float32', data, [lanes.length, ...shape]);
  };
  const blocks = (rotation: ModuleOperands['rotation'], width: number, size: number): Float64Array => {
    const dense = denseRotation(rotation, width);
    return Float64Array.from({ length: width * size }, (_, i) => {
      const row = Math.floor(i / size);
      return dense[row * width + (row - (row % size)) + (i % size)] as number;
    });
  };
  // Rotations of results are fed as one full block, unless they share their width with the inputs'.
  const outputSize = n === d ? e : n;
  const shift = (own: ModuleOperands): Float64Array =>
    Float64Array.from({ length: n }, (_, i) =>
      own.bias ? (own.bias[i] as number) - (base.bias?.[i] ?? 0) : 0,
    );
  return {
    [LANES_INPUT]: new ort.Tensor('int64', BigInt64Array.of(BigInt(lanes.length)), [1]),
    [blocksInput(d)]: new ort.Tensor('int64', BigInt64Array.of(BigInt(d / e), BigInt(e)), [2]),
    [blocksInput(n)]: new ort.Tensor(
      'int64',
      BigInt64Array.of(BigInt(n / outputSize), BigInt(outputSize)),
      [2],
    ),
    [operandInput('rotation', module)]: stack(
      lanes.map((own) => blocks(own.rotation, d, e)),
      [d / e, e, e],
    ),
    [operandInput('outputRotation', module)]: stack(
      lanes.map((own) => blocks(own.outputRotation, n, outputSize)),
      [n / outputSize, outputSize, outputSize],
    ),
    [operandInput('scale', module)]: stack(
      lanes.map((own) => own.scale ?? new Float32Array(n).fill(1)),
      [1, n],
    ),
    [operandInput('shift', module)]: stack(lanes.map(shift), [1, n]),
    [operandInput('weight', module)]: stack(
      lanes.map((own) => own.weight ?? base.weight),
      [n, d],
    ),
  };
}

/** Runs a model as it stands (no optimisation); feeds that it does not ask for are left out. */
export async function runModel(
  model: OnnxModel,
  feeds: Readonly<Record<string, ort.Tensor>>,
): Promise<ort.InferenceSession.OnnxValueMapType> {
  const session = await ort.InferenceSession.create(encodeModel(model), {
    graphOptimizationLevel: 'disabled',
    logSeverityLevel: 3,
    intraOpNumThreads: 1,
  });
  try {
    const asked = Object.entries(feeds).filter(([name]) => session.inputNames.includes(name));
    return await session.run(Object.fromEntries(asked));
  } finally {
    await session.release();
  }
}

/** The kinds' plan over every site, run on these lanes. */
export async function runPlan(
  model: OnnxModel,
  sites: readonly ShapedSite[],
  module: string,
  base: BaseParameters,
  lanes: readonly ModuleOperands[],
  e: number,
  inputs: Readonly<Record<string, ort.Tensor>>,
  form: LaneForm = 'many',
): Promise<ort.InferenceSession.OnnxValueMapType> {
  const plan = compilePlan(model, sites, new Map([[module, kindsOf(lanes)]]), form);
  const feeds = laneFeeds(module, base, lanes, e);
  if (form === 'one') {
    for (const kind of ['rotation', 'outputRotation'] as const) {
      const { data, dims } = feeds[operandInput(kind, module)] as ort.Tensor;
      feeds[operandInput(kind, module)] = new ort.Tensor('float32', data as Float32Array, dims.slice(1));
    }
  }
  return runModel(plan, { ...inputs, ...feeds });
}
