/** Where PyTorch's parameters lie in a benchmark's model, so that PEFT adapts the very same base. */
import { join } from 'node:path';
import { externalEntry, openModel, tensorDims } from '#dist/onnx/model.js';
import { findModules } from '#dist/onnx/modules.js';
import type { BenchModel } from '../shapes.js';
import type { WeightPlace } from './python.js';

const DATA_FILE = 'model.onnx.data';

export interface Weights {
  /** File that all weights are in. */
  readonly data: string;
  /** By PyTorch's name. */
  readonly weights: Readonly<Record<string, WeightPlace>>;
}

/** All parameters of `BertForSequenceClassification`, of a model that `shapes.ts` wrote. */
export function weightPlaces({ folder }: BenchModel): Weights {
  const model = openModel(join(folder, 'model.onnx'));
  // Weights of linear layers have lost their names, as exporters leave them.
  const linears = new Map(
    findModules(model).flatMap(({ name, weight }) =>
      weight === null ? [] : [[weight.tensor.name, { name, ...weight }] as const],
    ),
  );
  const places = model.graph.initializer.flatMap((tensor): [string, WeightPlace][] => {
    // Small constants are opened as ranges of the graph's own file.
    if (externalEntry(tensor, 'location') !== DATA_FILE) return [];
    const offset = externalEntry(tensor, 'offset');
    const linear = linears.get(tensor.name);
    const name = linear === undefined ? tensor.name : `${linear.name}.weight`;
    const transposed = linear !== undefined && !linear.storedOutIn;
    return [[name, { offset: Number(offset ?? 0), shape: tensorDims(tensor), transposed }]];
  });
  return { data: join(folder, DATA_FILE), weights: Object.fromEntries(places) };
}
