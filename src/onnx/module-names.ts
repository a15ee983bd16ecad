/**
 * The torch path of the module that a node belongs to, from what exporters leave behind, in this order:
 * 1. the dynamo exporter's name scopes (`pkg.torch.onnx.name_scopes`);
 * 2. the TorchScript exporter's node path (`/encoder/layer.0/attention/self/query/MatMul`);
 * 3. the name of a parameter that the node reads (`encoder.layer.0.attention.self.query.weight`).
 */
import type { NodeProto } from './gen/onnx_pb.js';

const SCOPES_KEY = 'pkg.torch.onnx.name_scopes';

/** `['', 'bert', 'bert.encoder.layer.0.attention.self.query', 'linear']` → the last but one entry. */
export function moduleFromScopes(node: NodeProto): string | undefined {
  const scopes = node.metadataProps.find((entry) => entry.key === SCOPES_KEY)?.value;
  if (scopes === undefined) return undefined;
  const entries = [...scopes.matchAll(/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/g)].map(
    (match) => match.at(1) ?? match.at(2) ?? '',
  );
  const module = entries.at(-2);
  return module === undefined || module === '' ? undefined : module;
}

const OPERATOR = /^(?:MatMul|Gemm|Conv)(?:_\d+)?$/;

/**
 * `/add_embedding/add_embedding.0/Gemm` → `add_embedding.0`: an nn.Sequential repeats its own name in its
 * children's, a ModuleList (`/attn1/to_out.0/MatMul`) does not.
 */
export function moduleFromPath(nodeName: string): string | undefined {
  if (!nodeName.startsWith('/')) return undefined;
  const parts = nodeName.split('/').slice(1, -1);
  // An optimiser's node is named below the node it was made of: `…/query/MatMul/MatMulAddFusion`.
  if (OPERATOR.test(parts.at(-1) ?? '')) parts.pop();
  const path: string[] = [];
  for (const part of parts) {
    const parent = path.at(-1);
    if (parent !== undefined && part.startsWith(`${parent}.`)) path[path.length - 1] = part;
    else path.push(part);
  }
  return path.length === 0 ? undefined : path.join('.');
}

/** `encoder.query.weight` → `encoder.query`. Exporters' own names (`onnx::MatMul_12`, `val_4`) have no dot-suffix. */
export function moduleFromParameter(parameter: string): string | undefined {
  const match = /^(.+)\.(?:weight|bias)$/.exec(parameter);
  return match?.[1];
}

/** `query_1` → `query`: how exporters mark a later use of the same module. Undefined where there is no suffix. */
export function withoutUseSuffix(module: string): string | undefined {
  const match = /^(.+)_\d+$/.exec(module);
  return match?.[1];
}
