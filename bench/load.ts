/** How long an adapter of each kind and size takes to load, against reading its file and doing nothing with it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { AdapterLoader } from '#dist/adapters/loader.js';
import type { ModuleSet } from './adapters.js';
import type { BenchOptions, Benchmark } from './benchmark.js';
import { WEIGHTS_FILE, describeRotations, writeCheckpoint } from './support/checkpoints.js';
import type { CheckpointSpec, Rotations } from './support/checkpoints.js';
import { openLoader } from './support/loader.js';
import { Random } from './support/random.js';
import type { Cell, Findings, Table } from './support/report.js';
import { alternate, ratios, spread } from './support/statistics.js';
import type { Rounds } from './support/statistics.js';

const ROUNDS: Rounds = { warmUp: 2, rounds: 15, maxSeconds: 4 };
const FEW: Rounds = { warmUp: 1, rounds: 3, maxSeconds: 2 };
const SETS: readonly ModuleSet[] = ['all', 'qv'];
const NAMES: Readonly<Record<ModuleSet, string>> = { all: 'all linears', qv: 'q and v' };

const boft = (blockSize: number, factors: number): Rotations => ({ kind: 'BOFT', blockSize, factors });
const oft = (blockSize: number, form: 'cayley' | 'neumann'): Rotations => ({ kind: 'OFT', blockSize, form });

/** Cases by the title of their table. */
function casesOf(quick: boolean): Map<string, CheckpointSpec[]> {
  const blockSizes = quick ? [8] : [4, 8, 16];
  const factors = quick ? [1, 2] : [1, 2, 3, 4];
  const forms = ['cayley', 'neumann'] as const;
  const each = (rotations: readonly Rotations[], dtype: CheckpointSpec['dtype']): CheckpointSpec[] =>
    rotations.flatMap((one) => SETS.map((modules) => ({ rotations: one, modules, dtype })));
  const boftSizes = blockSizes.flatMap((b) => factors.map((m) => boft(b, m)));
  // 32 is PEFT's default for OFT.
  const oftSizes = [...blockSizes, 32].flatMap((b) => forms.map((form) => oft(b, form)));
  return new Map([
    ['BOFT, float32', each(boftSizes, 'F32')],
    ['OFT, float32', each(oftSizes, 'F32')],
    ['bfloat16', each([boft(8, 2), oft(8, 'cayley'), oft(8, 'neumann')], 'BF16')],
  ]);
}

const timed = async (work: () => unknown): Promise<number> => {
  const started = performance.now();
  await work();
  return performance.now() - started;
};

async function measure(
  loader: AdapterLoader,
  folder: string,
  { rotations, modules }: CheckpointSpec,
  rounds: Rounds,
): Promise<Record<string, Cell>> {
  const file = join(folder, WEIGHTS_FILE);
  const parts = [{ folder: basename(folder), strength: 1 }];
  const { parts: loaded } = await loader.load(parts);
  const times = await alternate(
    [
      { name: 'load', measure: () => timed(() => loader.load(parts)) },
      { name: 'read', measure: () => timed(() => readFileSync(file)) },
    ],
    rounds,
  );
  const [load = [], read = []] = [times.get('load'), times.get('read')];
  const [loads, reads] = [spread(load), spread(read)];
  return {
    adapter: describeRotations(rotations),
    modules: NAMES[modules],
    'file MB': statSync(file).size / 1e6,
    'operands MB': (loaded[0]?.bytes ?? NaN) / 1e6,
    'load ms': loads.median,
    '± MAD': loads.mad,
    'load p90': loads.p90,
    'read ms': reads.median,
    '± MAD ': reads.mad,
    'load − read': spread(load.map((ms, i) => ms - (read.at(i) ?? NaN))).median,
    'load ÷ read': spread(ratios(load, read)).median,
    rounds: loads.count,
  };
}

async function run({ model, seed, quick, workFolder, progress }: BenchOptions): Promise<Findings> {
  mkdirSync(workFolder, { recursive: true });
  const root = mkdtempSync(join(workFolder, 'load-'));
  const loader = openLoader(model, root);
  const tables: Table[] = [];
  try {
    for (const [title, specs] of casesOf(quick)) {
      const rows: Record<string, Cell>[] = [];
      for (const spec of specs) {
        progress(`${title}: ${describeRotations(spec.rotations)}, ${NAMES[spec.modules]}`);
        const folder = join(root, 'adapter');
        writeCheckpoint(folder, model.shape, spec, new Random(seed, 8));
        rows.push(await measure(loader, folder, spec, quick ? FEW : ROUNDS));
        rmSync(folder, { recursive: true });
      }
      tables.push({ title, rows });
    }
  } finally {
    await loader.close();
    rmSync(root, { recursive: true, force: true });
  }
  const setup = {
    model: `shapes of ${model.name}`,
    load: "the server's loader in its thread, started before: read, check, compute, hand over; no other work",
    read: `readFileSync of ${WEIGHTS_FILE}, in turn with the loads; files are in the page cache`,
    figures: 'medians over rounds; differences and ratios are of pairs from one round',
    'time budget': 'rounds end early on a slow machine, see the column',
  };
  return { setup, tables, verdicts: [] };
}

export const load: Benchmark = {
  name: 'load',
  summary: 'Loading an adapter, by kind and size, against reading its file.',
  shape: 'bert-base',
  run,
};
