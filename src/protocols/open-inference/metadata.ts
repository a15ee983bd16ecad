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

export interface DescribedModel {
  readonly name: string;
  /** null: not known yet (the adapter's files were not read), then `versions` is left out. */
  readonly version: string | null;
  /** Of an adapter's own head, which is then as wide. */
  readonly labels: readonly string[] | null;
}

/** The output of a classifier's head: `logits`, or the only one of rank 2; undefined where there is none. */
function findScores(outputs: readonly TensorSpec[]): TensorSpec | undefined {
  const rows = outputs.filter((output) => output.dims.length === 2);
  return rows.find((output) => output.name === 'logits') ?? (rows.length === 1 ? rows[0] : undefined);
}

export function encodeModelMetadata(
  base: ModelDescription,
  { name, version, labels }: DescribedModel,
): object {
  const scores = labels === null ? undefined : findScores(base.outputs);
  const outputs = base.outputs.map((output) =>
    output === scores ? { ...output, dims: [...output.dims.slice(0, -1), labels?.length ?? ''] } : output,
  );
  return {
    name,
    ...(version === null ? {} : { versions: [version] }),
    platform: 'onnx_onnxv1',
    inputs: base.inputs.map(encodeTensorSpec),
    outputs: outputs.map(encodeTensorSpec),
  };
}

/** An adapter that is only catalogued is ready: its first request loads it. */
export function isServable(adapter: Pick<AdapterInfo, 'state'>): boolean {
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
