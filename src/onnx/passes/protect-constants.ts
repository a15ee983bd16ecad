/**
 * Keeps optimisers from computing a module ahead of time. Some modules also act on a table of the model's own
 * (DeBERTa's projections of relative positions); folded into a constant, that use could not be adapted.
 *
 * Requires: a model as exported. Ensures: the tables that such uses depend on are also inputs of the graph with the
 * table as default, and so no constants; nothing else changes. Returns whether there were any.
 */
import { GraphIndex, makeValueInfo } from '../graph.js';
import { ELEM, tensorDims } from '../model.js';
import type { OnnxModel } from '../model.js';
import type { GraphModule } from '../modules.js';

const FLOATS: readonly number[] = [ELEM.FLOAT, ELEM.FLOAT16];

/** Initializers that a value is computed from, or null where a graph input takes part. */
function constantOrigins(index: GraphIndex, inputs: ReadonlySet<string>, value: string): Set<string> | null {
  const origins = new Set<string>();
  const seen = new Set<string>();
  const pending = [value];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === '' || seen.has(name)) continue;
    seen.add(name);
    if (index.initializers.has(name)) origins.add(name);
    else if (inputs.has(name)) return null;
    else pending.push(...(index.producers.get(name)?.input ?? []));
  }
  return origins;
}

export function protectConstants(model: OnnxModel, modules: readonly GraphModule[]): boolean {
  const index = new GraphIndex(model.graph);
  const inputs = new Set(model.graph.input.map((input) => input.name));
  const tables = new Set<string>();
  for (const { uses } of modules) {
    for (const { value } of uses) {
      const activation = index.producers.get(value)?.input.at(0);
      const origins = activation === undefined ? null : constantOrigins(index, inputs, activation);
      for (const name of origins ?? []) {
        const tensor = index.initializers.get(name);
        if (tensor && FLOATS.includes(tensor.dataType) && tensor.dims.length >= 2) tables.add(name);
      }
    }
  }
  for (const name of tables) {
    const tensor = index.initializers.get(name);
    if (tensor && !inputs.has(name)) {
      model.graph.input.push(makeValueInfo(name, tensor.dataType, tensorDims(tensor)));
    }
  }
  return tables.size > 0;
}
