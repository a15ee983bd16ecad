/** How long the HTTP thread keeps others waiting while the server has all the work it can do. */
import { describeAdapter } from './adapters.js';
import type { AdapterSpec } from './adapters.js';
import type { BenchOptions, Benchmark } from './benchmark.js';
import { withClient } from './load/client.js';
import { adapterFolder } from './support/adapter-folder.js';
import { rowInputs } from './support/executor.js';
import { Random } from './support/random.js';
import type { Cell, Findings, Verdict } from './support/report.js';
import { inferCall } from './support/requests.js';
import type { BodyFormat } from './support/requests.js';
import { growth, withServer } from './support/server.js';

const SPEC: AdapterSpec = { blockSize: 8, factors: 2, modules: 'all' };
const ADAPTERS = 4;
const CLIENTS = 64;
const BODIES = 40;
const CASES: readonly { readonly length: number; readonly format: BodyFormat }[] = [
  { length: 8, format: 'json' },
  { length: 128, format: 'json' },
  { length: 128, format: 'binary' },
];
const GOAL_MS = 10;

async function run({ model, seed, quick, workFolder, progress }: BenchOptions): Promise<Findings> {
  const random = new Random(seed, 5);
  const windowMs = quick ? 2000 : 20_000;
  const rampUpMs = quick ? 500 : 3000;
  progress('writing adapters');
  const adapters = adapterFolder({ model, spec: SPEC, count: ADAPTERS, seed, workFolder });
  const rows: Record<string, Cell>[] = [];
  const verdicts: Verdict[] = [];
  const options = {
    modelFolder: model.folder,
    cacheFolder: model.cacheFolder,
    adaptersFolder: adapters.folder,
    flags: ['--served-name', 'base'],
  };
  await withServer(options, (server) =>
    withClient(async (client) => {
      const names = ['base', ...adapters.names];
      for (const { length, format } of CASES) {
        progress(`T=${String(length)}, ${format}`);
        const calls = Array.from({ length: BODIES }, (_, i) =>
          inferCall(names[i % names.length] ?? 'base', rowInputs(model, length, random), format),
        );
        const order = { port: server.port, clients: CLIENTS, calls };
        await client.run({ ...order, rampUpMs: 0, windowMs: rampUpMs });
        // A scrape tells the delays since the one before it.
        const before = await server.scrape();
        const load = await client.run({ ...order, rampUpMs: 0, windowMs });
        const after = await server.scrape();
        const delayMs = (stat: string): number =>
          1000 * (after.get(`papillon_event_loop_delay_seconds{stat="${stat}"}`) ?? NaN);
        const batches = growth(before, after, 'papillon_batch_rows_count');
        rows.push({
          T: length,
          body: format,
          'p50 ms': delayMs('p50'),
          'p99 ms': delayMs('p99'),
          'max ms': delayMs('max'),
          'rows/s': load.answers / load.seconds,
          'rows a batch': growth(before, after, 'papillon_batch_rows_sum') / batches,
          'adapters a batch': growth(before, after, 'papillon_batch_distinct_adapters_sum') / batches,
          'latency ms': load.latencyMedianMs,
          'latency p99 ms': load.latencyP99Ms,
          's measured': load.seconds,
        });
        verdicts.push({
          what: `event-loop delay of the HTTP thread, p99, T=${String(length)}, ${format}`,
          seen: delayMs('p99'),
          unit: 'ms',
          comparison: '<',
          goal: GOAL_MS,
        });
      }
    }),
  );
  const setup = {
    model: `${model.name}, random weights`,
    requests: `one row each, in turn for the base and ${String(ADAPTERS)} adapters (${describeAdapter(SPEC)})`,
    server: 'papillon serve with its defaults, logging requests to nowhere',
    clients: `${String(CLIENTS)} in one other process, closed loop; it shares the cores with the server`,
    source: 'papillon_event_loop_delay_seconds over the whole window',
  };
  return { setup, tables: [{ title: 'Delay of the event loop at saturation', rows }], verdicts };
}

export const eventLoop: Benchmark = {
  name: 'event-loop',
  summary: "Delay of the HTTP thread's event loop at saturation.",
  shape: 'bert-base',
  run,
};
