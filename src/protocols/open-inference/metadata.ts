/** Owns the protocol's answers about the server and its models: metadata, repository, statistics. Pure. */
import type { AdapterInfo, ModelDescription, ModelStatistics, TensorSpec } from '../../types.js';

export const EXTENSIONS = ['binary_tensor_data', 'model_repository', 'statistics'] as const;

export function encodeError(message: string): { readonly error: string } {
  return { error: message };
}

export function encodeServerMetadata(server: { readonly name: string; readonly version: string }): object {
  return { name: server.name, version: server.version, extensions: EXTENSIONS };
}

function encodeTensorSpec(spec: TensorSpec): object {
  const shape = spec.dims.map((dim) => (typeof dim === 'number' ? dim : -1));
  return { name: spec.name, datatype: spec.datatype, shape };
}

/** `version` null: not known yet (the adapter's files were not read), then `versions` is left out. */
export function encodeModelMetadata(model: ModelDescription, name: string, version: string | null): object {
  return {
    name,
    ...(version === null ? {} : { versions: [version] }),
    platform: 'onnx_onnxv1',
    inputs: model.inputs.map(encodeTensorSpec),
    outputs: model.outputs.map(encodeTensorSpec),
  };
}

/** An adapter that is only catalogued is ready: its first request loads it. */
export function isServable(adapter: AdapterInfo): boolean {
  return adapter.state !== 'failed' && adapter.state !== 'unloaded';
}

export interface RepositoryEntry {
  readonly name: string;
  readonly version?: string;
  readonly state: 'READY' | 'LOADING' | 'UNAVAILABLE';
  readonly reason: string;
}

function repositoryState(adapter: AdapterInfo): RepositoryEntry['state'] {
  if (!isServable(adapter)) return 'UNAVAILABLE';
  return adapter.state === 'loading' ? 'LOADING' : 'READY';
}

function repositoryReason(adapter: AdapterInfo): string {
  if (adapter.error !== null) return adapter.error.message;
  return adapter.state === 'unloaded' ? 'unloaded' : '';
}

/** The base first, then the adapters in the order given; `readyOnly` leaves out what is not READY. */
export function encodeRepositoryIndex(
  model: ModelDescription,
  isBaseReady: boolean,
  adapters: readonly AdapterInfo[],
  readyOnly: boolean,
): readonly RepositoryEntry[] {
  const base: RepositoryEntry = {
    name: model.id,
    version: model.digest,
    state: isBaseReady ? 'READY' : 'UNAVAILABLE',
    reason: isBaseReady ? '' : 'the server is not ready',
  };
  const entries = adapters.map((adapter): RepositoryEntry => ({
    name: adapter.id,
    ...(adapter.version === null ? {} : { version: adapter.version }),
    state: repositoryState(adapter),
    reason: repositoryReason(adapter),
  }));
  return [base, ...entries].filter((entry) => !readyOnly || entry.state === 'READY');
}

const NOTHING = { count: 0, ns: 0 } as const;

/** Figures that the engine does not keep (response cache, per-batch copying) are absent or zero. */
export function encodeStatistics(statistics: readonly ModelStatistics[]): object {
  return {
    model_stats: statistics.map((model) => ({
      name: model.name,
      version: model.version ?? '',
      last_inference: Math.round(model.lastInference),
      inference_count: model.inferenceCount,
      execution_count: model.executionCount,
      inference_stats: {
        success: model.success,
        fail: model.fail,
        queue: model.queue,
        compute_input: model.computeInput,
        compute_infer: model.computeInfer,
        compute_output: model.computeOutput,
        cache_hit: NOTHING,
        cache_miss: NOTHING,
      },
      batch_stats: model.batches.map((batch) => ({
        batch_size: batch.rows,
        compute_infer: { count: batch.count, ns: batch.inferNs },
      })),
    })),
  };
}
