/** Look-ups in a graph (who makes and who reads a value, what is constant) and small constructors for nodes. */
import { create } from '@bufbuild/protobuf';
import { AttributeProtoSchema, AttributeType, NodeProtoSchema, ValueInfoProtoSchema } from './gen/onnx_pb.js';
import type { AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto } from './gen/onnx_pb.js';

export class GraphIndex {
  readonly initializers = new Map<string, TensorProto>();
  readonly producers = new Map<string, NodeProto>();
  readonly consumers = new Map<string, NodeProto[]>();

  constructor(readonly graph: GraphProto) {
    for (const tensor of graph.initializer) this.initializers.set(tensor.name, tensor);
    for (const node of graph.node) {
      for (const name of node.output) if (name !== '') this.producers.set(name, node);
      for (const name of node.input) {
        const list = this.consumers.get(name);
        if (list) list.push(node);
        else this.consumers.set(name, [node]);
      }
    }
  }

  /** The constant behind a value: an initializer or a Constant node, also through Identity and Cast. */
  constant(name: string): TensorProto | undefined {
    let current = name;
    for (let depth = 0; depth < 16; depth++) {
      const initializer = this.initializers.get(current);
      if (initializer) return initializer;
      const producer = this.producers.get(current);
      if (!producer) return undefined;
      if (producer.opType === 'Constant') return producer.attribute.find((a) => a.name === 'value')?.t;
      if (producer.opType !== 'Identity' && producer.opType !== 'Cast') return undefined;
      current = producer.input[0] ?? '';
    }
    return undefined;
  }

  /** The only node that reads a value, if it is of this type. */
  soleConsumer(value: string | undefined, opType: string): NodeProto | undefined {
    const readers = value === undefined ? [] : (this.consumers.get(value) ?? []);
    return readers.length === 1 && readers[0]?.opType === opType ? readers[0] : undefined;
  }

  /** As `constant`, through Transposes that swap two axes and through DequantizeLinear. */
  constantMatrix(name: string): { readonly tensor: TensorProto; readonly transposed: boolean } | undefined {
    let current = name;
    let transposed = false;
    for (let depth = 0; depth < 16; depth++) {
      const direct = this.constant(current);
      if (direct) return { tensor: direct, transposed };
      const producer = this.producers.get(current);
      if (!producer) return undefined;
      if (producer.opType === 'Transpose') transposed = !transposed;
      else if (!['Identity', 'Cast', 'DequantizeLinear'].includes(producer.opType)) return undefined;
      current = producer.input[0] ?? '';
    }
    return undefined;
  }
}

export function intAttribute(node: NodeProto, name: string, fallback: number): number {
  const attribute = node.attribute.find((a) => a.name === name);
  return attribute ? Number(attribute.i) : fallback;
}

export function floatAttribute(node: NodeProto, name: string, fallback: number): number {
  const attribute = node.attribute.find((a) => a.name === name);
  return attribute ? attribute.f : fallback;
}

export function intsAttribute(name: string, values: readonly number[]): AttributeProto {
  return create(AttributeProtoSchema, { name, ints: values.map(BigInt), type: AttributeType.INTS });
}

export function intAttributeOf(name: string, value: number): AttributeProto {
  return create(AttributeProtoSchema, { name, i: BigInt(value), type: AttributeType.INT });
}

export interface NodeOptions {
  readonly name: string;
  readonly domain?: string;
  readonly attributes?: readonly AttributeProto[];
}

export function makeNode(
  opType: string,
  input: readonly string[],
  output: readonly string[],
  options: NodeOptions,
): NodeProto {
  return create(NodeProtoSchema, {
    opType,
    input: [...input],
    output: [...output],
    name: options.name,
    domain: options.domain ?? '',
    attribute: [...(options.attributes ?? [])],
  });
}

/** A graph input or output; a dimension is a size, or a name for a variable one. */
export function makeValueInfo(
  name: string,
  elemType: number,
  dims: readonly (number | string)[],
): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      tensorType: {
        elemType,
        shape: { dim: dims.map((d) => (typeof d === 'number' ? { dimValue: BigInt(d) } : { dimParam: d })) },
      },
    },
  });
}
