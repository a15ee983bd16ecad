/** One row through PEFT on PyTorch against the same row here, and what it costs to go from one adapter to another. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { OnnxExecutor } from '#dist/runtime/executor.js';
import type { TensorMap } from '#dist/types.js';
import { describeAdapter } from './adapters.js';
import type { AdapterSpec } from './adapters.js';
import type { BenchOptions, Benchmark } from './benchmark.js';
import { checkPython, PeftProcess } from './peft/python.js';
import type { About, Forward } from './peft/python.js';
import { weightPlaces } from './peft/weights.js';
import { adapterFolder } from './support/adapter-folder.js';
import { openExecutor, rowInputs } from './support/executor.js';
import { openLoader } from './support/loader.js';
import { Random } from './support/random.js';
import type { Cell, Findings, Verdict } from './support/report.js';
import { spread } from './support/statistics.js';
import type { Spread } from './support/statistics.js';

const SPEC: AdapterSpec = { blockSize: 8, factors: 2, modules: 'all' };
const LENGTH = 128;
/** What float32 leaves of the same function computed in two ways. */
const TOLERANCE = 1e-3;
const WARM_UP_ROUNDS = 3;
const PEFT_BASE_RUNS = 5;
const PEFT_ACTIVATIONS = 10;
const GOAL_FORWARD = 100;
const GOAL_SWITCH = 1000;

/** Milliseconds, one entry a repetition. */
interface PeftTimes {
  readonly base: number[];
  readonly unmerged: number[];
  readonly merged: number[];
  readonly merge: number[];
  readonly unmerge: number[];
  readonly activate: number[];
  readonly standIn: number[];
}

interface OwnTimes {
  readonly load: number[];
  readonly base: number[];
  /** Requests of the adapter that the one before was for. */
  readonly steady: number[];
  /** Requests of another adapter than the one before. */
  readonly switched: number[];
}

/** The executor with two adapters resident, and one row for it. */
class Own {
  readonly times: OwnTimes = { load: [], base: [], steady: [], switched: [] };

  constructor(
    readonly executor: OnnxExecutor,
    readonly inputs: TensorMap,
    readonly keys: readonly string[],
  ) {}

  async run(adapterKey: string | null): Promise<{ ms: number; logits: readonly number[] }> {
    const started = performance.now();
    const result = await this.executor.run({ items: [{ adapterKey, inputs: this.inputs, rows: 1 }] });
    const ms = performance.now() - started;
    if ((result.plan === 'base') !== (adapterKey === null)) {
      throw new Error('a batch ran another graph than it was meant to');
    }
    const logits = result.outputs[0]?.get('logits')?.data;
    if (!(logits instanceof Float32Array)) throw new Error('the model gave no logits');
    return { ms, logits: [...logits] };
  }

  /** A A B B …: the first of a pair follows the other adapter, the second itself. */
  async measure(rounds: number): Promise<void> {
    for (let i = 0; i < rounds; i++) {
      for (const key of this.keys) {
        this.times.switched.push((await this.run(key)).ms);
        this.times.steady.push((await this.run(key)).ms);
      }
    }
    for (let i = 0; i < rounds; i++) this.times.base.push((await this.run(null)).ms);
  }

  forget(): void {
    for (const times of [this.times.base, this.times.steady, this.times.switched]) times.length = 0;
  }
}

function expectSame(what: string, own: readonly number[], peft: readonly number[]): number {
  const differences = own.map((value, i) => Math.abs(value - (peft.at(i) ?? NaN)));
  const largest = own.length === peft.length ? Math.max(...differences) : NaN;
  if (!(largest <= TOLERANCE)) {
    throw new Error(`${what}: logits differ from PEFT's by ${String(largest)}, so the work is not the same`);
  }
  return largest;
}

/** One repetition of all that PEFT is asked for; the first of `names` is active before and after. */
async function measurePeft(
  peft: PeftProcess,
  names: readonly string[],
  times: PeftTimes,
): Promise<{ first: Forward; second: Forward }> {
  const [a = '', b = ''] = names;
  for (let i = 0; i < PEFT_BASE_RUNS; i++) times.base.push((await peft.base()).ms);
  const first = await peft.forward();
  times.unmerged.push(first.ms);
  times.standIn.push(first.standInMs);
  for (let i = 0; i < PEFT_ACTIVATIONS; i++) times.activate.push(await peft.activate(i % 2 === 0 ? b : a));
  await peft.activate(b);
  times.merge.push(await peft.merge());
  const second = await peft.forward();
  times.merged.push(second.ms);
  times.unmerge.push(await peft.unmerge());
  await peft.activate(a);
  return { first, second };
}

function row(what: string, peft: readonly number[], own: readonly number[]): Record<string, Cell> {
  const [theirs, ours] = [spread(peft), spread(own)];
  return {
    what,
    'PEFT ms': theirs.median,
    min: theirs.min,
    max: Math.max(...peft),
    n: theirs.count,
    'Papillon ms': ours.median,
    '± MAD': ours.mad,
    'n ': ours.count,
    ratio: theirs.median / ours.median,
  };
}

const sums = (...parts: readonly (readonly number[])[]): number[] =>
  (parts[0] ?? []).map((_, i) => parts.reduce((sum, part) => sum + (part.at(i) ?? NaN), 0));

/** Rows of the table and the two ratios that goals are set for. */
function summarise(peft: PeftTimes, loadMs: readonly number[], own: OwnTimes): Found {
  const differences = own.switched.map((ms, i) => ms - (own.steady.at(i) ?? NaN));
  const difference = spread(differences);
  // A difference cannot be told finer than rounds scatter; rounding it up is to PEFT's advantage.
  const switchMs = Math.max(difference.median, difference.mad);
  const switching = (what: string, times: readonly number[]): Record<string, Cell> => ({
    ...row(what, times, differences),
    ratio: spread(times).median / switchMs,
  });
  const merging = sums(peft.unmerge, peft.merge);
  const activating = peft.activate.slice(0, peft.unmerged.length);
  const forward = row('unmerged forward, adapter active before', peft.unmerged, own.steady);
  const switched = switching('switch: unmerge one, merge the other', merging);
  const rows = [
    row('base forward, adapters switched off', peft.base, own.base),
    forward,
    switched,
    switching('switch: set_adapter', peft.activate),
    row('first answer after it, merged', sums(merging, peft.merged), own.switched),
    row('first answer after it, set_adapter', sums(activating, peft.unmerged), own.switched),
    row('a further adapter from its file', loadMs, own.load),
  ];
  const numberOf = (cell: Cell | undefined): number => (typeof cell === 'number' ? cell : NaN);
  return {
    rows,
    difference,
    forward: numberOf(forward['ratio']),
    switched: numberOf(switched['ratio']),
  };
}

interface Found {
  readonly rows: readonly Record<string, Cell>[];
  readonly difference: Spread;
  readonly forward: number;
  readonly switched: number;
}

async function openOwn(options: BenchOptions, root: string, names: readonly string[]): Promise<Own> {
  const { model, seed } = options;
  const loader = openLoader(model, root);
  const executor = await openExecutor(model, availableParallelism());
  const own = new Own(executor, rowInputs(model, LENGTH, new Random(seed, 9)), names);
  try {
    for (const name of names) {
      const started = performance.now();
      const { operands, parts } = await loader.load([{ folder: name, strength: 1 }]);
      await executor.attach({ key: name, modules: operands, bytes: parts[0]?.bytes ?? 0 });
      own.times.load.push(performance.now() - started);
    }
    // As for PEFT, only what follows the first.
    own.times.load.shift();
    return own;
  } catch (error) {
    await executor.close();
    throw error;
  } finally {
    await loader.close();
  }
}

async function run(options: BenchOptions): Promise<Findings> {
  const { model, seed, quick, full, workFolder, python, progress } = options;
  const [repetitions, rounds] = quick ? [1, 3] : full ? [5, 15] : [2, 15];
  progress('writing adapters');
  const { folder, names } = adapterFolder({ model, spec: SPEC, count: 2, seed, workFolder });
  progress('opening the base here');
  const own = await openOwn(options, folder, names);
  try {
    progress('opening the base in PyTorch');
    const { peft, about } = await PeftProcess.open(python, {
      shape: model.shape,
      ...weightPlaces(model),
      adapters: Object.fromEntries(names.map((name) => [name, join(folder, name)])),
      ids: [...(own.inputs.get('input_ids')?.data ?? [])].map(Number),
      threads: availableParallelism(),
    });
    try {
      await own.measure(WARM_UP_ROUNDS);
      own.forget();
      const times: PeftTimes = {
        base: [],
        unmerged: [],
        merged: [],
        merge: [],
        unmerge: [],
        activate: [],
        standIn: [],
      };
      expectSame('base', (await own.run(null)).logits, (await peft.base()).logits);
      const [a = '', b = ''] = names;
      let difference = 0;
      for (let i = 0; i < repetitions; i++) {
        progress(`repetition ${String(i + 1)} of ${String(repetitions)}`);
        await own.measure(rounds);
        const { first, second } = await measurePeft(peft, names, times);
        difference = Math.max(
          difference,
          expectSame('unmerged', (await own.run(a)).logits, first.logits),
          expectSame('merged', (await own.run(b)).logits, second.logits),
        );
      }
      await own.measure(rounds);
      return findings(options, about, times, own.times, difference);
    } finally {
      peft.close();
    }
  } finally {
    await own.executor.close();
  }
}

function findings(
  { model }: BenchOptions,
  about: About,
  peft: PeftTimes,
  own: OwnTimes,
  logitDifference: number,
): Findings {
  const found = summarise(peft, about.loadMs.slice(1), own);
  const n = `n = ${String(peft.unmerged.length)}`;
  const verdicts: Verdict[] = [
    {
      what: `PEFT's unmerged forward against ours, ${n}`,
      seen: found.forward,
      unit: '×',
      comparison: '>=',
      goal: GOAL_FORWARD,
    },
    {
      what: `PEFT's switch (unmerge, merge) against ours, ${n}`,
      seen: found.switched,
      unit: '×',
      comparison: '>=',
      goal: GOAL_SWITCH,
    },
  ];
  const { median, mad } = found.difference;
  const setup = {
    model: `${model.name}, random weights, the same here and in PyTorch`,
    adapters: `2, ${describeAdapter(SPEC)} with s, from the same files`,
    work: `one row of ${String(LENGTH)} tokens, float32, on the CPU`,
    threads: `${String(about.threads)} for PyTorch, ${String(availableParallelism())} for ONNX Runtime`,
    PyTorch: Object.entries(about.versions)
      .map(([name, version]) => `${name} ${version ?? ''}`)
      .concat(`Python ${about.python}`)
      .join(', '),
    BLAS: `${about.blas}; ${about.gflops.toFixed(0)} GFLOP/s in a product of 2048 × 2048`,
    'stand-in for the CUDA extension, share of a forward':
      spread(peft.standIn).median / spread(peft.unmerged).median,
    "PEFT's permutation matrices, MB": about.permutationMb,
    'largest difference of logits': logitDifference.toExponential(1),
  };
  const note =
    `A switch here is a request of another adapter than the one before minus a request of the same one, both ` +
    `resident: ${median.toFixed(2)} ms ± ${mad.toFixed(2)} (MAD). The ratio takes the larger of the two numbers.`;
  return { setup, tables: [{ title: 'Milliseconds', rows: found.rows, note }], verdicts };
}

export const peft: Benchmark = {
  name: 'peft',
  summary: 'One unmerged forward and switching adapters in PEFT on PyTorch against the same here (needs Python).',
  shape: 'bert-base',
  check: ({ python }) => {
    checkPython(python);
  },
  run,
};
