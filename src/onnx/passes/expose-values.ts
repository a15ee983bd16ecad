/**
 * Makes inner values outputs of the graph, so that a probe can read them.
 *
 * Requires: nothing. Ensures: every named value is an output exactly once; nodes are untouched.
 */
import { create } from '@bufbuild/protobuf';
import { ValueInfoProtoSchema } from '../gen/onnx_pb.js';
import type { OnnxModel } from '../model.js';

export function exposeValues(model: OnnxModel, values: Iterable<string>): void {
  const known = new Set(model.graph.output.map((output) => output.name));
  for (const name of values) {
    if (known.has(name)) continue;
    known.add(name);
    model.graph.output.push(create(ValueInfoProtoSchema, { name }));
  }
}
