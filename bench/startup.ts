/** Time from starting the server to its readiness, with and without a compiled-model cache. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchOptions, Benchmark } from './benchmark.js';
import type { Cell, Findings, Verdict } from './support/report.js';
import { withServer } from './support/server.js';
import { spread } from './support/statistics.js';

const GOAL_SECONDS = 1;

async function startMs(modelFolder: string, cacheFolder: string): Promise<number> {
  return withServer({ modelFolder, cacheFolder }, ({ readyMs }) => Promise.resolve(readyMs));
}

/** Starting Node.js with an empty program: the floor below every start. */
async function emptyNodeMs(): Promise<number> {
  const started = performance.now();
  await once(spawn(process.execPath, ['--eval', ''], { stdio: 'ignore' }), 'exit');
  return performance.now() - started;
}

function row(what: string, times: readonly number[]): Record<string, Cell> {
  const { count, min, median, p90, mad } = spread(times);
  return { what, min, median, p90, MAD: mad, starts: count };
}

async function run({ model, quick, workFolder, progress }: BenchOptions): Promise<Findings> {
  const [cachedStarts, freshStarts] = quick ? [3, 1] : [11, 3];
  const [cached, fresh, empty]: [number[], number[], number[]] = [[], [], []];
  progress('filling the cache');
  await startMs(model.folder, model.cacheFolder);
  for (let i = 0; i < cachedStarts; i++) {
    progress(`with the cache, ${String(i + 1)} of ${String(cachedStarts)}`);
    cached.push(await startMs(model.folder, model.cacheFolder));
    empty.push(await emptyNodeMs());
  }
  mkdirSync(workFolder, { recursive: true });
  for (let i = 0; i < freshStarts; i++) {
    progress(`without, ${String(i + 1)} of ${String(freshStarts)}`);
    const cacheFolder = mkdtempSync(join(workFolder, 'fresh-'));
    try {
      fresh.push(await startMs(model.folder, cacheFolder));
    } finally {
      rmSync(cacheFolder, { recursive: true, force: true });
    }
  }
  const found = spread(cached);
  const verdicts: Verdict[] = [
    {
      what: 'ready after start with a compiled-model cache, median',
      seen: found.median / 1000,
      mad: found.mad / 1000,
      unit: 's',
      comparison: '<',
      goal: GOAL_SECONDS,
    },
  ];
  const rows = [
    row('with a compiled-model cache', cached),
    row('without: optimise, probe, write the cache', fresh),
    row('an empty Node.js program', empty),
  ];
  const setup = {
    model: `${model.name}, random weights; its files and the cache are in the page cache`,
    server: 'papillon serve with its defaults, no adapters',
    measured: 'from spawning the process to the first 200 of /readyz, asked every 4 ms',
  };
  return { setup, tables: [{ title: 'Milliseconds until ready', rows }], verdicts };
}

export const startup: Benchmark = {
  name: 'startup',
  summary: 'Time until the server is ready, with and without a compiled-model cache.',
  shape: 'bert-base',
  run,
};
