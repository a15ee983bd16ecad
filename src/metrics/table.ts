/**
 * Owns every metric's name, type, unit, labels and buckets. docs/metrics.md is this table, printed.
 * Rules: prefix `papillon_`, base units, counters end in `_total`, ratios 0 to 1, no label of unbounded values.
 */

export interface MetricSpec {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** What is counted or measured; for durations and sizes the name ends in it. */
  readonly unit: string;
  readonly labels: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
  readonly help: string;
}

/** 100 µs to a minute in steps of 2 to 3: a warm small model and a stalled queue both fall inside. */
const SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
const COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const TOKENS = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];
const RATIOS = [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const ADAPTERS = [0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64];

export const METRICS = {
  // Requests as clients see them
  requests: {
    name: 'papillon_requests_total',
    type: 'counter',
    unit: 'requests',
    labels: ['protocol', 'outcome'],
    help: 'HTTP requests answered, by protocol and outcome: `ok` or the error code.',
  },
  responses: {
    name: 'papillon_http_responses_total',
    type: 'counter',
    unit: 'responses',
    labels: ['route', 'status'],
    help: 'HTTP answers by route (its pattern, never the path asked for) and status.',
  },
  requestDuration: {
    name: 'papillon_request_duration_seconds',
    type: 'histogram',
    unit: 'seconds',
    labels: ['protocol'],
    buckets: SECONDS,
    help: 'End to end: from the first byte of the request to the last byte of the answer.',
  },
  tokeniseDuration: {
    name: 'papillon_tokenise_duration_seconds',
    type: 'histogram',
    unit: 'seconds',
    labels: [],
    buckets: SECONDS,
    help: 'Turning the texts of one call into tokens, its wait for the tokenizer included.',
  },
  tokenisedTexts: {
    name: 'papillon_tokenised_texts_total',
    type: 'counter',
    unit: 'texts',
    labels: [],
    help: 'Texts turned into tokens.',
  },
  promptTokens: {
    name: 'papillon_prompt_tokens_total',
    type: 'counter',
    unit: 'tokens',
    labels: [],
    help: 'Tokens of those texts, special tokens included.',
  },
  truncatedTexts: {
    name: 'papillon_truncated_texts_total',
    type: 'counter',
    unit: 'texts',
    labels: [],
    help: 'Texts that were longer than the model takes and were cut.',
  },

  // Queue and batches
  inferences: {
    name: 'papillon_inference_requests_total',
    type: 'counter',
    unit: 'requests',
    labels: ['outcome'],
    help: 'Inference requests that left the engine, by outcome: `ok` or the error code. A call of several texts makes several.',
  },
  inferenceRows: {
    name: 'papillon_inference_rows_total',
    type: 'counter',
    unit: 'rows',
    labels: [],
    help: 'Rows of the inference requests that succeeded.',
  },
  queueLength: {
    name: 'papillon_queue_length',
    type: 'gauge',
    unit: 'requests',
    labels: [],
    help: 'Inference requests waiting now.',
  },
  running: {
    name: 'papillon_running_requests',
    type: 'gauge',
    unit: 'requests',
    labels: [],
    help: 'Inference requests in a batch now.',
  },
  queueDuration: {
    name: 'papillon_queue_duration_seconds',
    type: 'histogram',
    unit: 'seconds',
    labels: [],
    buckets: SECONDS,
    help: 'Time of an inference request in the queue, its wait for a cold adapter included.',
  },
  assembleDuration: {
    name: 'papillon_batch_assemble_duration_seconds',
    type: 'histogram',
    unit: 'seconds',
    labels: [],
    buckets: SECONDS,
    help: "Stacking a batch's inputs and laying its adapters' operands side by side.",
  },
  inferenceDuration: {
    name: 'papillon_inference_duration_seconds',
    type: 'histogram',
    unit: 'seconds',
    labels: ['graph'],
    buckets: SECONDS,
    help: 'Time of a batch inside the model: `graph` is `base` for the untouched graph, `adapters` for one that applies adapters.',
  },
  batchRows: {
    name: 'papillon_batch_rows',
    type: 'histogram',
    unit: 'rows',
    labels: [],
    buckets: COUNTS,
    help: 'Rows of a batch.',
  },
  batchRequests: {
    name: 'papillon_batch_requests',
    type: 'histogram',
    unit: 'requests',
    labels: [],
    buckets: COUNTS,
    help: 'Inference requests that shared a batch.',
  },
  batchTokens: {
    name: 'papillon_batch_tokens',
    type: 'histogram',
    unit: 'tokens',
    labels: [],
    buckets: TOKENS,
    help: 'Tokens of a batch, padding included (rows, where the model has no sequence axis).',
  },
  batchPadding: {
    name: 'papillon_batch_padding_ratio',
    type: 'histogram',
    unit: 'ratio',
    labels: [],
    buckets: RATIOS,
    help: "Share of a batch's tokens that is padding.",
  },
  batchAdapters: {
    name: 'papillon_batch_distinct_adapters',
    type: 'histogram',
    unit: 'adapters',
    labels: [],
    buckets: ADAPTERS,
    help: 'Different adapters in a batch; 0 is a batch of base requests only.',
  },

  // Adapters
  adapters: {
    name: 'papillon_adapters',
    type: 'gauge',
    unit: 'adapters',
    labels: ['tier'],
    help: 'Adapters known (`catalogue`) and with their operands resident (`host`).',
  },
  adapterBytes: {
    name: 'papillon_adapter_resident_bytes',
    type: 'gauge',
    unit: 'bytes',
    labels: ['tier'],
    help: 'Bytes of the resident operands.',
  },
  cacheHits: {
    name: 'papillon_adapter_cache_hits_total',
    type: 'counter',
    unit: 'lookups',
    labels: ['tier'],
    help: 'Requests whose adapter was resident when they arrived.',
  },
  cacheMisses: {
    name: 'papillon_adapter_cache_misses_total',
    type: 'counter',
    unit: 'lookups',
    labels: ['tier'],
    help: 'Requests whose adapter had to be loaded first.',
  },
  cacheEvictions: {
    name: 'papillon_adapter_cache_evictions_total',
    type: 'counter',
    unit: 'adapters',
    labels: ['tier'],
    help: 'Adapters that made room for others.',
  },
  adapterLoads: {
    name: 'papillon_adapter_loads_total',
    type: 'counter',
    unit: 'loads',
    labels: ['outcome'],
    help: 'Adapter loads by outcome: `ok` or the error code.',
  },
  adapterLoadDuration: {
    name: 'papillon_adapter_load_duration_seconds',
    type: 'histogram',
    unit: 'seconds',
    labels: [],
    buckets: SECONDS,
    help: "Reading, checking and preparing one adapter's files.",
  },
  adapterRequests: {
    name: 'papillon_adapter_requests_total',
    type: 'counter',
    unit: 'requests',
    labels: ['adapter'],
    help: 'Inference requests by adapter, for the adapters that `--metrics-adapters` chooses; the rest is `other`. Off by default.',
  },
  adapterRequestsFolded: {
    name: 'papillon_adapter_requests_folded_total',
    type: 'counter',
    unit: 'requests',
    labels: [],
    help: 'Inference requests that were counted under `other`: what the choice of adapters hides.',
  },

  // Engine
  engineState: {
    name: 'papillon_engine_state',
    type: 'gauge',
    unit: '0 or 1',
    labels: ['state'],
    help: "1 for the engine's present state.",
  },
  restarts: {
    name: 'papillon_engine_restarts_total',
    type: 'counter',
    unit: 'restarts',
    labels: [],
    help: 'Times the engine was lost and started again.',
  },
  plans: {
    name: 'papillon_plans',
    type: 'gauge',
    unit: 'graphs',
    labels: [],
    help: 'Compiled graphs that apply adapters, one for each set of adapted modules met.',
  },
  compileDuration: {
    name: 'papillon_compile_duration_seconds',
    type: 'histogram',
    unit: 'seconds',
    labels: ['cached'],
    buckets: SECONDS,
    help: 'Compiling and opening a graph; `cached` tells whether the compiled-model cache had it.',
  },

  // The process
  eventLoopDelay: {
    name: 'papillon_event_loop_delay_seconds',
    type: 'gauge',
    unit: 'seconds',
    labels: ['stat'],
    help: "Delay of the HTTP thread's event loop since the previous scrape: `p50`, `p99`, `max`.",
  },
  buildInfo: {
    name: 'papillon_build_info',
    type: 'gauge',
    unit: '1',
    labels: ['version', 'node'],
    help: 'Always 1; the labels tell what runs.',
  },
  modelInfo: {
    name: 'papillon_model_info',
    type: 'gauge',
    unit: '1',
    labels: ['model', 'digest', 'provider'],
    help: 'Always 1; the labels tell which base is served and where it runs.',
  },
} as const satisfies Record<string, MetricSpec>;

function bucketText(spec: MetricSpec): string {
  return spec.buckets === undefined ? '' : ` Buckets: ${spec.buckets.join(', ')}.`;
}

/** The table as Markdown, one line a metric, in the order above. */
export function metricsMarkdown(): string {
  const lines = Object.values(METRICS).map((spec: MetricSpec) => {
    const labels = spec.labels.map((label) => `\`${label}\``).join(', ');
    return `| \`${spec.name}\` | ${spec.type} | ${spec.unit} | ${labels} | ${spec.help}${bucketText(spec)} |`;
  });
  return ['| Name | Type | Unit | Labels | Meaning |', '|---|---|---|---|---|', ...lines].join('\n');
}
