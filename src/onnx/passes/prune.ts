/**
 * Drops what a pass has made superfluous: initializers that nothing reads any more, and the nodes (Transpose, Cast,
 * Identity, DequantizeLinear, …) that only prepared them.
 *
 * Requires: `release` was told every value that lost a reader. Ensures: of those, what no node, branch or output reads is
 * gone, with its declarations; everything else stays, also what was superfluous before.
 */
import type { GraphProto, NodeProto } from '../gen/onnx_pb.js';

/** Values that a graph's nodes read, those of branches and loop bodies included. */
function* valuesRead(graph: GraphProto): Generator<string> {
  for (const node of graph.node) yield* valuesReadBy(node);
  for (const { name } of graph.output) yield name;
}

function* valuesReadBy(node: NodeProto): Generator<string> {
  yield* node.input;
  for (const { g } of node.attribute) if (g) yield* valuesRead(g);
}

/** Every name that a graph and the graphs inside it define or read. */
function* allNames(graph: GraphProto): Generator<string> {
  yield* valuesRead(graph);
  for (const { name } of [...graph.initializer, ...graph.input]) yield name;
  for (const node of graph.node) {
    yield* node.output;
    for (const { g } of node.attribute) if (g) yield* allNames(g);
  }
}

export class Pruner {
  private readonly released: string[] = [];

  constructor(private readonly graph: GraphProto) {}

  /** A node no longer reads this value. */
  release(name: string): void {
    if (name !== '') this.released.push(name);
  }

  /** Every name in use. */
  names(): Set<string> {
    return new Set(allNames(this.graph));
  }

  /** A name that nothing has, like `wanted`. */
  newName(wanted: string): string {
    const taken = this.names();
    let name = wanted;
    for (let number = 1; taken.has(name); number++) name = `${wanted}_${number}`;
    return name;
  }

  prune(): void {
    const { graph } = this;
    const readers = new Map<string, number>();
    for (const name of valuesRead(graph)) readers.set(name, (readers.get(name) ?? 0) + 1);
    const producers = new Map(graph.node.flatMap((node) => node.output.map((name) => [name, node] as const)));
    const isRead = (name: string): boolean => (readers.get(name) ?? 0) > 0;
    const dead = new Set<NodeProto>();
    const gone = new Set<string>();
    const open = [...this.released];
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      if (isRead(name)) continue;
      gone.add(name);
      const node = producers.get(name);
      if (!node || dead.has(node) || node.output.some(isRead)) continue;
      dead.add(node);
      for (const input of valuesReadBy(node)) {
        readers.set(input, (readers.get(input) ?? 1) - 1);
        open.push(input);
      }
    }
    const initializers = new Set(
      graph.initializer.map((tensor) => tensor.name).filter((name) => gone.has(name)),
    );
    graph.node = graph.node.filter((node) => !dead.has(node));
    graph.initializer = graph.initializer.filter((tensor) => !gone.has(tensor.name));
    // Old exporters list initializers as inputs: without its values such an input would have to be fed.
    graph.input = graph.input.filter((input) => !initializers.has(input.name));
    graph.valueInfo = graph.valueInfo.filter((info) => !gone.has(info.name));
  }
}
