/** The benchmarks' command line: `npm run bench -- NAME [options]`. */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { CannotMeasure } from './benchmark.js';
import type { Benchmark } from './benchmark.js';
import { catalogue } from './catalogue.js';
import { coldStart } from './cold-start.js';
import { eventLoop } from './event-loop.js';
import { httpOverhead } from './http-overhead.js';
import { load } from './load.js';
import { mixedBatch } from './mixed-batch.js';
import { peft } from './peft.js';
import { SHAPES, benchModel } from './shapes.js';
import type { ShapeName } from './shapes.js';
import { startup } from './startup.js';
import { describeMachine } from './support/machine.js';
import { reportJson, reportMarkdown, reportText } from './support/report.js';

const BENCHMARKS: readonly Benchmark[] = [
  mixedBatch,
  httpOverhead,
  eventLoop,
  coldStart,
  startup,
  catalogue,
  load,
  peft,
];

/** Something that the benchmark needs is not installed. */
const EXIT_CANNOT_MEASURE = 3;

interface Options {
  readonly json: boolean;
  readonly markdown: boolean;
  readonly quick: boolean;
  readonly full: boolean;
  readonly shape?: ShapeName;
  readonly layers?: number;
  readonly python: string;
  readonly seed: number;
  readonly work: string;
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('expected a whole number');
  return value;
}

function list(): string {
  const width = Math.max(...BENCHMARKS.map(({ name }) => name.length));
  return BENCHMARKS.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n');
}

async function runBenchmark(benchmark: Benchmark, options: Options): Promise<void> {
  const { quick, full, seed, work, layers, python } = options;
  benchmark.check?.({ python });
  const shape = options.shape ?? benchmark.shape;
  const machine = describeMachine();
  const date = new Date().toISOString();
  const started = performance.now();
  const progress = (text: string): void => {
    process.stderr.write(`${benchmark.name}: ${text}\n`);
  };
  const workFolder = resolve(work);
  progress(`model of shape ${shape}`);
  const model = benchModel(shape, seed, workFolder, layers);
  const findings = await benchmark.run({ model, seed, quick, full, workFolder, python, progress });
  const seconds = Math.round((performance.now() - started) / 1000);
  // Goals are set for one shape: at another one, meeting or missing them says nothing.
  const verdicts = shape === benchmark.shape && layers === undefined ? findings.verdicts : [];
  const report = { benchmark: benchmark.name, date, seconds, seed, machine, ...findings, verdicts };
  const print = options.json ? reportJson : options.markdown ? reportMarkdown : reportText;
  process.stdout.write(print(report));
}

const program = new Command('npm run bench --')
  .description('Measures this machine. Everything stays on it: servers listen on 127.0.0.1 only.')
  .addArgument(new Argument('[name]', 'which benchmark').choices(BENCHMARKS.map(({ name }) => name)))
  .option('--json', 'one JSON object instead of text', false)
  .option('--markdown', "its goals as rows of docs/performance.md's table", false)
  .option('--quick', 'a few rounds only: rough figures', false)
  .option('--full', 'every combination: takes long', false)
  .addOption(
    new Option(
      '--shape <name>',
      'another base than the goals are set for; tiny only shows that it runs',
    ).choices(Object.keys(SHAPES)),
  )
  .option('--layers <number>', "fewer than the shape's: shows that it runs, sooner", wholeNumber)
  .option('--python <path>', 'interpreter with PyTorch and PEFT, for peft', 'python3')
  .option('--seed <number>', 'of models, adapters and inputs', wholeNumber, 1)
  .option(
    '--work <folder>',
    'where models and compiled forms are kept (2 GB)',
    fileURLToPath(new URL('../../.cache/bench', import.meta.url)),
  )
  .addHelpText('after', `\nBenchmarks:\n${list()}`)
  .action(async (name: string | undefined, options: Options) => {
    const benchmark = BENCHMARKS.find((one) => one.name === name);
    if (!benchmark) {
      process.stdout.write(`Benchmarks (npm run bench -- NAME):\n${list()}\n`);
      return;
    }
    try {
      await runBenchmark(benchmark, options);
    } catch (error) {
      if (!(error instanceof CannotMeasure)) throw error;
      process.stderr.write(`${benchmark.name}: ${error.message}\n`);
      process.exitCode = EXIT_CANNOT_MEASURE;
    }
  });

// Leaving in order ends the servers and clients that were started.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
