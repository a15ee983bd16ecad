/** What ten thousand adapters on disk cost a server that has not been asked for any of them. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeAdapter } from './adapters.js';
import type { AdapterSpec } from './adapters.js';
import type { BenchOptions, Benchmark } from './benchmark.js';
import { linkedAdapterFolder } from './support/adapter-folder.js';
import { rowInputs } from './support/executor.js';
import { HttpClient } from './support/http-client.js';
import { Random } from './support/random.js';
import type { Cell, Findings, Verdict } from './support/report.js';
import { inferCall } from './support/requests.js';
import { withServer } from './support/server.js';
import { alternate, median, spread } from './support/statistics.js';
import type { Side } from './support/statistics.js';

const SPEC: AdapterSpec = { blockSize: 4, factors: 1, modules: 'qv' };
const COUNT = 10_000;
const SETTLE_MS = 2000;
const CATALOGUED = 'papillon_adapters{tier="catalogue"}';
const GOAL_SECONDS = 5;
const GOAL_MB = 100;

interface Start {
  readonly readyMs: number;
  readonly residentMb: number;
  /** First answer of the last adapter; NaN where there is none. */
  readonly firstMs: number;
}

function watchLimit(): string {
  try {
    return readFileSync('/proc/sys/fs/inotify/max_user_watches', 'utf8').trim();
  } catch {
    return 'not known';
  }
}

async function run({ model, seed, quick, workFolder, progress }: BenchOptions): Promise<Findings> {
  progress('writing adapters');
  const { folder, names } = linkedAdapterFolder({ model, spec: SPEC, count: COUNT, seed, workFolder });
  const emptyFolder = join(workFolder, 'adapters', 'none');
  mkdirSync(emptyFolder, { recursive: true });
  const inputs = rowInputs(model, 8, new Random(seed, 7));
  const side = (name: string, adaptersFolder: string, expected: number): Side<Start> => ({
    name,
    measure: (round) => {
      progress(`${name}, round ${String(round)}`);
      const { folder: modelFolder, cacheFolder } = model;
      return withServer({ modelFolder, cacheFolder, adaptersFolder }, async (server) => {
        const known = (await server.scrape()).get(CATALOGUED);
        if (known !== expected) throw new Error(`${String(known)} adapters are catalogued when it is ready`);
        await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
        const residentMb = ((await server.scrape()).get('process_resident_memory_bytes') ?? NaN) / 1e6;
        const firstMs = expected === 0 ? NaN : await firstAnswerMs(server.port, names.at(-1) ?? '', inputs);
        return { readyMs: server.readyMs, residentMb, firstMs };
      });
    },
  });
  const sides = [side('none', emptyFolder, 0), side(`${String(COUNT)} adapters`, folder, COUNT)];
  const starts = await alternate(sides, { warmUp: 1, rounds: quick ? 3 : 7, maxSeconds: 120 });
  const rows = [...starts].map(([what, all]): Record<string, Cell> => {
    const [ready, resident] = [spread(all.map((s) => s.readyMs)), spread(all.map((s) => s.residentMb))];
    return {
      what,
      'ready ms min': ready.min,
      'ready ms': ready.median,
      'ready ms p90': ready.p90,
      'resident MB min': resident.min,
      'resident MB': resident.median,
      'resident MB p90': resident.p90,
      starts: all.length,
    };
  });
  const [none = [], many = []] = [...starts.values()];
  const firsts = many.map(({ firstMs }) => firstMs);
  const above = many.map(({ residentMb }, i) => residentMb - (none.at(i)?.residentMb ?? NaN));
  const [ready, memory] = [spread(many.map(({ readyMs }) => readyMs)), spread(above)];
  const verdicts: Verdict[] = [
    {
      what: `start-up with ${String(COUNT)} adapters, median`,
      seen: ready.median / 1000,
      mad: ready.mad / 1000,
      unit: 's',
      comparison: '<',
      goal: GOAL_SECONDS,
    },
    {
      what: 'resident memory above a start with none, median of pairs',
      seen: memory.median,
      mad: memory.mad,
      unit: 'MB',
      comparison: '<',
      goal: GOAL_MB,
    },
  ];
  const setup = {
    model: `${model.name}, random weights, compiled before`,
    adapters: `${String(COUNT)} folders, ${describeAdapter(SPEC)}, their files hard links to one adapter's`,
    'system watches allowed': watchLimit(),
    memory: `resident set ${String(SETTLE_MS / 1000)} s after readiness; at readiness all adapters are in the catalogue`,
    'first answer of one of them, ms': median(firsts),
  };
  return { setup, tables: [{ title: 'Starting with none and with many', rows }], verdicts };
}

async function firstAnswerMs(
  port: number,
  name: string,
  inputs: ReturnType<typeof rowInputs>,
): Promise<number> {
  const http = new HttpClient(port, 1);
  const started = performance.now();
  const { status, body } = await http.post(inferCall(name, inputs, 'json'));
  http.close();
  if (status !== 200) throw new Error(`${String(status)} for ${name}: ${body.toString()}`);
  return performance.now() - started;
}

export const catalogue: Benchmark = {
  name: 'catalogue',
  summary: 'Start-up time and memory of a server that knows 10,000 adapters.',
  shape: 'tiny',
  run,
};
