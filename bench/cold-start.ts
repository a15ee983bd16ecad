/** What the first request for an adapter that is only on disk waits longer than the next ones. */
import { describeAdapter } from './adapters.js';
import type { AdapterSpec } from './adapters.js';
import type { BenchOptions, Benchmark } from './benchmark.js';
import { adapterFolder } from './support/adapter-folder.js';
import { rowInputs } from './support/executor.js';
import { HttpClient } from './support/http-client.js';
import { Random } from './support/random.js';
import type { Findings, Verdict } from './support/report.js';
import { inferCall } from './support/requests.js';
import { withServer } from './support/server.js';
import { median, spread } from './support/statistics.js';

const SPEC: AdapterSpec = { blockSize: 8, factors: 2, modules: 'all' };
const LENGTH = 32;
const WARM_CALLS = 5;
const GOAL_MS = 60;

interface Answer {
  readonly ms: number;
  /** What the server says it waited in the queue, for its adapter too. */
  readonly queueMs: number;
}

async function run({ model, seed, quick, workFolder, progress }: BenchOptions): Promise<Findings> {
  const count = quick ? 4 : 20;
  const random = new Random(seed, 6);
  progress('writing adapters');
  // One more than is measured: the first adapter of its kind also has its plan opened.
  const adapters = adapterFolder({ model, spec: SPEC, count: count + 1, seed, workFolder });
  const inputs = rowInputs(model, LENGTH, random);
  const options = {
    modelFolder: model.folder,
    cacheFolder: model.cacheFolder,
    adaptersFolder: adapters.folder,
    flags: ['--served-name', 'base'],
  };
  return withServer(options, async (server) => {
    const http = new HttpClient(server.port, 1);
    const ask = async (name: string): Promise<Answer> => {
      const started = performance.now();
      const { status, headers, body } = await http.post(inferCall(name, inputs, 'json'));
      const ms = performance.now() - started;
      if (status !== 200) throw new Error(`${String(status)} for ${name}: ${body.toString()}`);
      return { ms, queueMs: Number(headers['x-queue-time-ms']) };
    };
    const warm = async (name: string): Promise<number> => {
      const times: number[] = [];
      for (let i = 0; i < WARM_CALLS; i++) times.push((await ask(name)).ms);
      return median(times);
    };
    progress(`${String(count)} cold adapters`);
    await warm('base');
    const [first = '', ...others] = adapters.names;
    const opening = (await ask(first)).ms - (await warm(first));
    const differences: number[] = [];
    const colds: Answer[] = [];
    const warms: number[] = [];
    for (const name of others) {
      const cold = await ask(name);
      const warmMs = await warm(name);
      colds.push(cold);
      warms.push(warmMs);
      differences.push(cold.ms - warmMs);
    }
    http.close();
    const row = (what: string, values: readonly number[]): Record<string, string | number> => {
      const found = spread(values);
      return { what, min: found.min, median: found.median, p90: found.p90, max: Math.max(...values) };
    };
    const tables = [
      {
        title: 'Milliseconds of a request',
        rows: [
          row(
            'cold',
            colds.map(({ ms }) => ms),
          ),
          row(
            'of which it waited',
            colds.map(({ queueMs }) => queueMs),
          ),
          row('warm', warms),
          row('cold − warm', differences),
          row('first adapter of a new plan, cold − warm', [opening]),
        ],
      },
    ];
    const what = `first answer of a cold adapter minus a warm one, ${describeAdapter(SPEC)}`;
    const { median: seen, mad } = spread(differences);
    const verdicts: Verdict[] = [{ what, seen, mad, unit: 'ms', comparison: '<', goal: GOAL_MS }];
    const setup = {
      model: `${model.name}, random weights`,
      adapters: `${String(count)}, ${describeAdapter(SPEC)}; their files are in the page cache`,
      requests: `one row of ${String(LENGTH)} tokens as JSON, one at a time; warm is the median of the ${String(WARM_CALLS)} that follow`,
      server: 'papillon serve with its defaults, on a compiled-model cache',
    };
    return { setup, tables, verdicts };
  });
}

export const coldStart: Benchmark = {
  name: 'cold-start',
  summary: 'First answer of an adapter that is only on disk, minus a warm one.',
  shape: 'bert-base',
  run,
};
