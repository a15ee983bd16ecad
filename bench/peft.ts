/** One row through PEFT on PyTorch against the same row here, and what it costs to go from one adapter to another. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { BenchOptions, Benchmark } from './benchmark.js';
import { Own } from './peft/own.js';
import { PeftProcess, checkPython } from './peft/python.js';
import type { About, Forward } from './peft/python.js';
import { summarise } from './peft/summary.js';
import type { PeftTimes } from './peft/summary.js';
import { weightPlaces } from './peft/weights.js';
import { describeRotations, writeCheckpoint } from './support/checkpoints.js';
import type { CheckpointSpec } from './support/checkpoints.js';
import { rowInputs } from './support/executor.js';
import { Random } from './support/random.js';
import type { Findings, Verdict } from './support/report.js';
import { median } from './support/statistics.js';

const SPEC: CheckpointSpec = {
  rotations: { kind: 'BOFT', blockSize: 8, factors: 2 },
  modules: 'all',
  dtype: 'F32',
};
const ADAPTERS = ['first', 'second'] as const;
const LENGTH = 128;
/** What float32 leaves of the same function computed in two ways. */
const TOLERANCE = 1e-3;
const WARM_UP_ROUNDS = 3;
const PEFT_BASE_RUNS = 5;
const PEFT_ACTIVATIONS = 10;
const GOAL_FORWARD = 100;
const GOAL_SWITCH = 1000;

async function run(options: BenchOptions): Promise<Findings> {
  const { model, seed, workFolder, progress } = options;
  progress('writing adapters');
  mkdirSync(workFolder, { recursive: true });
  const root = mkdtempSync(join(workFolder, 'peft-'));
  try {
    for (const [i, name] of ADAPTERS.entries())
      writeCheckpoint(join(root, name), model.shape, SPEC, new Random(seed, 10 + i));
    progress('opening the base here');
    const own = await Own.open(model, root, ADAPTERS, rowInputs(model, LENGTH, new Random(seed, 9)));
    try {
      return await comparedWithPeft(options, root, own);
    } finally {
      await own.executor.close();
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

async function comparedWithPeft(options: BenchOptions, root: string, own: Own): Promise<Findings> {
  const { model, python, quick, full, progress } = options;
  const [repetitions, rounds] = quick ? [1, 5] : full ? [5, 15] : [2, 15];
  progress('opening the base in PyTorch');
  const { peft, about } = await PeftProcess.open(python, {
    shape: model.shape,
    ...weightPlaces(model),
    adapters: Object.fromEntries(ADAPTERS.map((name) => [name, join(root, name)])),
    ids: [...(own.inputs.get('input_ids')?.data ?? [])].map(Number),
    threads: availableParallelism(),
  });
  try {
    const times: PeftTimes = {
      base: [],
      unmerged: [],
      merged: [],
      merge: [],
      unmerge: [],
      activate: [],
      standIn: [],
      load: about.loadMs.slice(1),
    };
    await own.warmUp(WARM_UP_ROUNDS);
    const base = await own.run(null);
    const effect = largestDifference(base, await own.run(ADAPTERS[0]));
    let difference = expectSame(base, await peft.base());
    // Back and forth, so that what slows the machine for a while slows both.
    for (let i = 0; i < repetitions; i++) {
      progress(`repetition ${String(i + 1)} of ${String(repetitions)}`);
      await own.measure(rounds);
      const [first, second] = await measurePeft(peft, times);
      difference = Math.max(
        difference,
        expectSame(await own.run(ADAPTERS[0]), first),
        expectSame(await own.run(ADAPTERS[1]), second),
      );
    }
    await own.measure(rounds);
    return findings(model.name, about, times, own, { difference, effect });
  } finally {
    peft.close();
  }
}

/** One repetition of all that PEFT is asked for: the first adapter unmerged, the second merged and unmerged again. */
async function measurePeft(peft: PeftProcess, times: PeftTimes): Promise<[Forward, Forward]> {
  const [a, b] = ADAPTERS;
  for (let i = 0; i < PEFT_BASE_RUNS; i++) times.base.push((await peft.base()).ms);
  const first = await peft.forward();
  times.unmerged.push(first.ms);
  times.standIn.push(first.standInMs);
  for (let i = 0; i < PEFT_ACTIVATIONS; i++) times.activate.push(await peft.activate(i % 2 === 0 ? b : a));
  times.activate.push(await peft.activate(b));
  times.merge.push(await peft.merge());
  const second = await peft.forward();
  times.merged.push(second.ms);
  times.unmerge.push(await peft.unmerge());
  times.activate.push(await peft.activate(a));
  return [first, second];
}

interface Answer {
  readonly logits: readonly number[];
}

function largestDifference(one: Answer, other: Answer): number {
  if (one.logits.length !== other.logits.length) return NaN;
  return Math.max(...one.logits.map((value, i) => Math.abs(value - (other.logits.at(i) ?? NaN))));
}

/** The largest difference of logits; throws unless both computed the same function. */
function expectSame(own: Answer, peft: Answer): number {
  const largest = largestDifference(own, peft);
  if (largest <= TOLERANCE) return largest;
  throw new Error(`the logits differ from PEFT's by ${String(largest)}, so it is not the same work`);
}

function findings(
  modelName: string,
  about: About,
  peft: PeftTimes,
  own: Own,
  logits: { readonly difference: number; readonly effect: number },
): Findings {
  const { rows, switchMs, forwardRatio, switchRatio } = summarise(peft, own.times);
  const n = `n = ${String(peft.unmerged.length)}`;
  const goal = (what: string, seen: number, least: number): Verdict => ({
    what: `${what}, PEFT ÷ Papillon, ${n}`,
    seen,
    unit: '×',
    comparison: '>=',
    goal: least,
  });
  const verdicts = [
    goal('unmerged forward', forwardRatio, GOAL_FORWARD),
    goal('switching adapters (unmerge, merge)', switchRatio, GOAL_SWITCH),
  ];
  const versions = Object.entries(about.versions).map(([name, version]) => `${name} ${version ?? ''}`);
  const setup = {
    model: `${modelName}, random weights, the same here and in PyTorch`,
    adapters: `2, all linears, ${describeRotations(SPEC.rotations)} with s, from the same files`,
    work: `one row of ${String(LENGTH)} tokens, float32, on the CPU`,
    threads: `${String(about.threads)} for PyTorch, ${String(availableParallelism())} for ONNX Runtime`,
    'compared with': [...versions, `Python ${about.python}`].join(', '),
    "PyTorch's BLAS": `${about.blas}; ${about.gflops.toFixed(0)} GFLOP/s in a large matrix product`,
    'of its forward in the stand-in': `${((100 * median(peft.standIn)) / median(peft.unmerged)).toFixed(1)}%; it replaces the CUDA extension only`,
    'its permutation matrices, MB': about.permutationMb,
    'largest difference of logits': `${logits.difference.toExponential(1)}; an adapter moves them by up to ${logits.effect.toExponential(1)}`,
  };
  const note =
    'A switch here is a request of another adapter than the one before minus one of the same, both resident: ' +
    `${switchMs.median.toFixed(2)} ms, MAD ${switchMs.mad.toFixed(2)}. Its ratios divide by the larger of the two: they are lower bounds.`;
  return { setup, tables: [{ title: 'PEFT on PyTorch and Papillon', rows, note }], verdicts };
}

export const peft: Benchmark = {
  name: 'peft',
  summary: 'A forward and switching adapters in PEFT on PyTorch against the same here; needs Python.',
  shape: 'bert-base',
  check: ({ python }) => {
    checkPython(python);
  },
  run,
};
