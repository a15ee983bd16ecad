/** What it costs that the rows of a batch have adapters of their own, against the plain base at the same rows. */
import type { OnnxExecutor } from '#dist/runtime/executor.js';
import { describeAdapter, makeOperands } from './adapters.js';
import type { AdapterSpec, ModuleSet } from './adapters.js';
import type { BenchOptions, Benchmark } from './benchmark.js';
import type { BenchModel } from './shapes.js';
import { rowsPerBatch } from './support/budgets.js';
import { openExecutor, rowInputs, runWork } from './support/executor.js';
import type { WorkTime } from './support/executor.js';
import { Random, zipf } from './support/random.js';
import type { Cell, Findings, Table, Verdict } from './support/report.js';
import { alternate, median, ratios, spread } from './support/statistics.js';
import type { Rounds, Side, Spread } from './support/statistics.js';

/** Who the rows of a batch belong to. */
const POPULARITIES = {
  identical: 'all rows the same adapter',
  distinct: 'every row another adapter, the same ones each time',
  fresh: 'every row another adapter, all exchanged from one time to the next',
  zipf: 'drawn from 16 adapters by Zipf(1.0)',
} as const;
type Popularity = keyof typeof POPULARITIES;

/** One size of work: `requests` rows of `length` tokens, in batches of `rowsPerBatch`. */
interface Work {
  readonly length: number;
  readonly requests: number;
  readonly rowsPerBatch: number;
}

interface Case {
  readonly work: Work;
  readonly spec: AdapterSpec;
  readonly popularity: Popularity;
}

/** Adapters of a kind where they change from time to time. */
const RESIDENT = 16;
const SETS: readonly ModuleSet[] = ['all', 'qv'];
const BLOCKS: readonly (readonly [b: number, m: number])[] = [
  [4, 1],
  [8, 1],
  [8, 2],
  [16, 2],
  [32, 1],
];
const GOALS: Readonly<Record<ModuleSet, number>> = { all: 1.1, qv: 1.03 };
const ROUNDS: Rounds = { warmUp: 2, rounds: 11, maxSeconds: 40 };
const FEW: Rounds = { warmUp: 1, rounds: 3, maxSeconds: 10 };
/** No further group of cases is begun after this time. */
const MAX_SECONDS = 130;

const b8m2 = (modules: ModuleSet): AdapterSpec => ({ blockSize: 8, factors: 2, modules });

function oneBatch(length: number, requests: number): Work {
  return { length, requests, rowsPerBatch: requests };
}

/** As the server packs it with its default budgets. */
function packed(length: number, requests: number): Work {
  return { length, requests, rowsPerBatch: Math.min(requests, rowsPerBatch(length)) };
}

function workName({ length, requests, rowsPerBatch }: Work): string {
  return `T=${String(length)} ${String(requests)}/${String(rowsPerBatch)}`;
}

/** The executor with the adapters that cases need, attached when first asked for. */
class Bench {
  readonly #attached = new Map<string, string[]>();
  readonly #random: Random;

  constructor(
    readonly executor: OnnxExecutor,
    readonly model: BenchModel,
    readonly seed: number,
  ) {
    this.#random = new Random(seed, 2);
  }

  /** Keys of `count` adapters of one kind. */
  async attach(spec: AdapterSpec, count: number): Promise<readonly string[]> {
    const name = describeAdapter(spec);
    const keys = this.#attached.get(name) ?? [];
    this.#attached.set(name, keys);
    for (let i = keys.length; i < count; i++) {
      const key = `${name} ${String(i)}@0`;
      await this.executor.attach(makeOperands(key, this.model.shape, spec, this.seed + i));
      keys.push(key);
    }
    return keys.slice(0, count);
  }

  detachAll(): void {
    for (const key of [...this.#attached.values()].flat()) this.executor.detach(key);
    this.#attached.clear();
  }

  baseSide(work: Work): Side<WorkTime> {
    const pick = (): null => null;
    return this.#side(`base ${workName(work)}`, work, () => pick);
  }

  async adapterSide({ work, spec, popularity }: Case): Promise<Side<WorkTime>> {
    const isVaried = popularity === 'fresh' || popularity === 'zipf';
    const keys = await this.attach(spec, isVaried ? RESIDENT : work.requests);
    const draw = zipf(new Random(this.seed, 3), keys.length, 1);
    const name = caseName({ work, spec, popularity });
    return this.#side(name, work, (round) => (row) => {
      const shift = popularity === 'fresh' ? (round % 2) * work.requests : 0;
      const at = popularity === 'identical' ? 0 : popularity === 'zipf' ? draw() : row + shift;
      return keys[at % keys.length] ?? null;
    });
  }

  #side(
    name: string,
    work: Work,
    chooser: (round: number) => (row: number) => string | null,
  ): Side<WorkTime> {
    const rows = Array.from({ length: work.requests }, () =>
      rowInputs(this.model, work.length, this.#random),
    );
    return {
      name,
      measure: (round) => {
        const choose = chooser(round);
        const items = rows.map((inputs, row) => ({ adapterKey: choose(row), inputs, rows: 1 }));
        return runWork(this.executor, items, work.rowsPerBatch);
      },
    };
  }
}

function caseName({ work, spec, popularity }: Case): string {
  return `${describeAdapter(spec)} ${popularity} ${workName(work)}`;
}

interface Measured {
  readonly row: Readonly<Record<string, Cell>>;
  readonly ratio: Spread;
}

function summarise(
  { work, spec, popularity }: Case,
  own: readonly WorkTime[],
  base: readonly WorkTime[],
): Measured {
  const wall = (times: readonly WorkTime[]): number[] => times.map((time) => time.wall);
  const inference = (times: readonly WorkTime[]): number[] => times.map((time) => time.inference);
  const [mine, plain] = [spread(wall(own)), spread(wall(base))];
  const ratio = spread(ratios(wall(own), wall(base)));
  return {
    ratio,
    row: {
      T: work.length,
      requests: work.requests,
      'rows a batch': work.rowsPerBatch,
      adapters: describeAdapter(spec),
      who: popularity,
      ratio: ratio.median,
      '± MAD': ratio.mad,
      'ratio of minima': mine.min / plain.min,
      'in the model': median(ratios(inference(own), inference(base))),
      'base ms': plain.median,
      ms: mine.median,
      'ms min': mine.min,
      'ms p90': mine.p90,
      'assembly ms': median(own.map((time) => time.assembly)),
      rounds: own.length,
    },
  };
}

/** Measures cases beside the base at the same work, all of them in every round. */
async function measure(bench: Bench, cases: readonly Case[], rounds: Rounds): Promise<Map<string, Measured>> {
  const works = new Map(cases.map(({ work }) => [workName(work), work]));
  const sides = [...works.values()].map((work) => bench.baseSide(work));
  for (const one of cases) sides.push(await bench.adapterSide(one));
  const times = await alternate(sides, rounds);
  return new Map(
    cases.map((one) => [
      caseName(one),
      summarise(one, times.get(caseName(one)) ?? [], times.get(`base ${workName(one.work)}`) ?? []),
    ]),
  );
}

const bySet = (make: (modules: ModuleSet) => Case): Case[] => SETS.map(make);

function goalCases(): Case[] {
  return [oneBatch(128, 8), packed(128, 8)].flatMap((work) =>
    bySet((modules) => ({ work, spec: b8m2(modules), popularity: 'distinct' })),
  );
}

/** Groups of cases that are measured together, by the title of their table. */
function sweeps(full: boolean): Map<string, Case[][]> {
  const shapes = [8, 32, 128].flatMap((length) => [oneBatch(length, 1), oneBatch(length, 8)]);
  const everyWho = Object.keys(POPULARITIES) as Popularity[];
  if (full) {
    const groups = shapes.flatMap((work) =>
      everyWho.map((popularity) =>
        BLOCKS.flatMap(([blockSize, factors]) =>
          bySet((modules) => ({ work, spec: { blockSize, factors, modules }, popularity })),
        ),
      ),
    );
    return new Map([['Every combination', groups]]);
  }
  const filled = oneBatch(32, 8);
  return new Map([
    [
      'Lengths and rows',
      shapes
        .filter((work) => work.length !== 128 || work.requests === 1)
        .map((work) => bySet((modules) => ({ work, spec: b8m2(modules), popularity: 'distinct' }))),
    ],
    [
      'Popularity',
      [
        everyWho.flatMap((popularity) =>
          bySet((modules) => ({ work: filled, spec: b8m2(modules), popularity })),
        ),
      ],
    ],
    [
      'Block sizes and factors',
      [filled, oneBatch(128, 2)].map((work) =>
        BLOCKS.flatMap(([blockSize, factors]) =>
          bySet((modules) => ({ work, spec: { blockSize, factors, modules }, popularity: 'distinct' })),
        ),
      ),
    ],
  ]);
}

async function run(options: BenchOptions): Promise<Findings> {
  const { model, seed, quick, full, progress } = options;
  const rounds = quick ? FEW : ROUNDS;
  progress('opening the base');
  const executor = await openExecutor(model);
  const tables: Table[] = [];
  const verdicts: Verdict[] = [];
  const skipped: string[] = [];
  const stopAt = full ? Infinity : performance.now() + MAX_SECONDS * 1000;
  try {
    const bench = new Bench(executor, model, seed);
    progress('goals: eight requests of 128 tokens');
    const goals = await measure(bench, goalCases(), rounds);
    for (const { work, spec, popularity } of goalCases()) {
      const ratio = goals.get(caseName({ work, spec, popularity }))?.ratio ?? spread([]);
      const how =
        work.rowsPerBatch === work.requests ? 'one batch of 8' : `batches of ${String(work.rowsPerBatch)}`;
      const what = `8 distinct adapters, ${describeAdapter(spec)} with s, T=128, ${how}`;
      const { median: seen, mad } = ratio;
      verdicts.push({ what, seen, mad, unit: '×', comparison: '<=', goal: GOALS[spec.modules] });
    }
    tables.push({
      title: 'Eight requests of 128 tokens, each with an adapter of its own',
      rows: [...goals.values()].map(({ row }) => row),
      note: 'Ratios are medians over rounds of adapters ÷ base at the same work in the same round. "rows a batch" below 8 is how the server packs with its default token budget.',
    });
    for (const [title, groups] of sweeps(full)) {
      const rows: Measured['row'][] = [];
      for (const group of groups) {
        const what = `${title}: ${group[0] ? workName(group[0].work) : ''}`;
        if (performance.now() > stopAt) {
          skipped.push(what);
          continue;
        }
        progress(what);
        const found = await measure(bench, group, {
          ...rounds,
          maxSeconds: rounds.maxSeconds / groups.length,
        });
        rows.push(...[...found.values()].map(({ row }) => row));
      }
      if (rows.length > 0) tables.push({ title, rows });
      bench.detachAll();
    }
  } finally {
    await executor.close();
  }
  const setup = {
    model: `${model.name}, random weights`,
    adapters: 'random, all resident',
    ...POPULARITIES,
    'not measured for lack of time': skipped.length === 0 ? 'nothing' : skipped.join(', '),
    threads: 'one a core',
  };
  return { setup, tables, verdicts };
}

export const mixedBatch: Benchmark = {
  name: 'mixed-batch',
  summary: 'Time of batches whose rows have adapters of their own, against the plain base.',
  shape: 'bert-base',
  run,
};
