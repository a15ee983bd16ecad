/** Throughput through the whole server against a bare loop over the same session and batch. */
import type { BenchOptions, Benchmark } from './benchmark.js';
import { BareLoop } from './load/bare-loop.js';
import { withClient } from './load/client.js';
import type { LoadClient } from './load/client.js';
import type { BenchModel } from './shapes.js';
import { rowsPerBatch } from './support/budgets.js';
import { rowInputs } from './support/executor.js';
import { Random } from './support/random.js';
import type { Cell, Findings, Verdict } from './support/report.js';
import { inferCall } from './support/requests.js';
import type { BodyFormat } from './support/requests.js';
import { growth, withServer } from './support/server.js';
import type { ServerProcess } from './support/server.js';
import { alternate, median, ratios, spread } from './support/statistics.js';
import type { Side } from './support/statistics.js';

interface Case {
  readonly length: number;
  readonly format: BodyFormat;
}

/** What one window on one side gave. */
interface Window {
  readonly rowsPerSecond: number;
  readonly rowsPerBatch: number;
  /** Processor time a row, of the side that computes and of its clients. */
  readonly cpuMs: number;
  readonly clientCpuMs: number;
  /** Share of the window that the session was running. */
  readonly busy: number;
  readonly latencyMs: number;
}

const CASES: readonly Case[] = [
  { length: 128, format: 'json' },
  { length: 128, format: 'binary' },
  { length: 32, format: 'json' },
  { length: 8, format: 'json' },
];
const GOAL = 0.95;
/** Batches' worth of clients: one runs, one is prepared, the rest is on its way. */
const CLIENTS_PER_ROW = 4;
const BODIES = 32;
const RAMP_UP_MS = 500;

function bareSide(bare: BareLoop, rows: ReturnType<typeof rowInputs>[], windowMs: number): Side<Window> {
  return {
    name: 'bare',
    measure: async () => {
      const { batches, seconds, cpuSeconds } = await bare.run(rows, windowMs);
      const count = batches * rows.length;
      return {
        rowsPerSecond: count / seconds,
        rowsPerBatch: rows.length,
        cpuMs: (1000 * cpuSeconds) / count,
        clientCpuMs: 0,
        busy: 1,
        latencyMs: (1000 * seconds) / batches,
      };
    },
  };
}

function httpSide(
  server: ServerProcess,
  client: LoadClient,
  model: BenchModel,
  { length, format }: Case,
  options: { readonly windowMs: number; readonly random: Random; readonly modelName: string },
): Side<Window> {
  const { windowMs, random, modelName } = options;
  const calls = Array.from({ length: BODIES }, () =>
    inferCall(modelName, rowInputs(model, length, random), format),
  );
  const clients = CLIENTS_PER_ROW * rowsPerBatch(length);
  return {
    name: 'http',
    measure: async () => {
      const before = await server.scrape();
      const load = await client.run({ port: server.port, clients, calls, rampUpMs: RAMP_UP_MS, windowMs });
      const after = await server.scrape();
      const grown = (name: string): number => growth(before, after, name);
      // The scrapes also see ramp-up and end, so shares are taken per row and per batch.
      const rows = grown('papillon_batch_rows_sum');
      const inference = grown('papillon_inference_duration_seconds_sum');
      return {
        rowsPerSecond: load.answers / load.seconds,
        rowsPerBatch: rows / grown('papillon_batch_rows_count'),
        cpuMs: (1000 * grown('process_cpu_seconds_total')) / rows,
        clientCpuMs: (1000 * load.cpuSeconds) / load.answers,
        busy: ((inference / rows) * load.answers) / load.seconds,
        latencyMs: load.latencyMedianMs,
      };
    },
  };
}

function summarise(one: Case, http: readonly Window[], bare: readonly Window[]): Record<string, Cell> {
  const pick = (windows: readonly Window[], key: keyof Window): number[] =>
    windows.map((window) => window[key]);
  const ratio = spread(ratios(pick(http, 'rowsPerSecond'), pick(bare, 'rowsPerSecond')));
  const middle = (windows: readonly Window[], key: keyof Window): number => median(pick(windows, key));
  return {
    T: one.length,
    body: one.format,
    clients: CLIENTS_PER_ROW * rowsPerBatch(one.length),
    ratio: ratio.median,
    '± MAD': ratio.mad,
    'ratio min': ratio.min,
    'HTTP rows/s': middle(http, 'rowsPerSecond'),
    'bare rows/s': middle(bare, 'rowsPerSecond'),
    'HTTP rows a batch': middle(http, 'rowsPerBatch'),
    'bare rows a batch': middle(bare, 'rowsPerBatch'),
    'session busy': middle(http, 'busy'),
    'server CPU ms/row': middle(http, 'cpuMs'),
    'bare CPU ms/row': middle(bare, 'cpuMs'),
    'client CPU ms/row': middle(http, 'clientCpuMs'),
    'latency ms': middle(http, 'latencyMs'),
    rounds: http.length,
  };
}

async function run(options: BenchOptions): Promise<Findings> {
  const { model, seed, quick, progress } = options;
  const random = new Random(seed, 4);
  const windowMs = quick ? 1000 : 3000;
  const rounds = quick ? { warmUp: 1, rounds: 3, maxSeconds: 20 } : { warmUp: 1, rounds: 4, maxSeconds: 30 };
  const rows: Record<string, Cell>[] = [];
  const verdicts: Verdict[] = [];
  progress('opening the bare session and the server');
  const bare = await BareLoop.open(model);
  try {
    const { folder: modelFolder, cacheFolder } = model;
    const flags = ['--served-name', 'base'];
    await withServer({ modelFolder, cacheFolder, flags }, (server) =>
      withClient(async (client) => {
        for (const one of CASES) {
          progress(`T=${String(one.length)}, ${one.format}`);
          const batch = Array.from({ length: rowsPerBatch(one.length) }, () =>
            rowInputs(model, one.length, random),
          );
          const sides = [
            bareSide(bare, batch, windowMs),
            httpSide(server, client, model, one, { windowMs, random, modelName: 'base' }),
          ];
          const times = await alternate(sides, rounds);
          const row = summarise(one, times.get('http') ?? [], times.get('bare') ?? []);
          rows.push(row);
          const what = `rows/s over HTTP ÷ bare loop, T=${String(one.length)}, ${one.format}`;
          verdicts.push({
            what,
            seen: Number(row.ratio),
            mad: Number(row['± MAD']),
            unit: '×',
            comparison: '>=',
            goal: GOAL,
          });
        }
      }),
    );
  } finally {
    await bare.close();
  }
  const setup = {
    model: `${model.name}, random weights`,
    requests: 'one row each for the base, three INT64 inputs, nothing masked',
    server: 'papillon serve with its defaults, logging requests to nowhere',
    'bare loop':
      'one worker thread: session.run on the compiled file that the server maps, one batch as the server packs it',
    clients:
      'one other process, node:http with kept-alive connections, closed loop; it shares the cores with the server',
    'window ms': windowMs,
  };
  return { setup, tables: [{ title: 'Rows a second', rows }], verdicts };
}

export const httpOverhead: Benchmark = {
  name: 'http-overhead',
  summary: 'Throughput over HTTP against a bare loop over the same session and batch.',
  shape: 'bert-base',
  run,
};
