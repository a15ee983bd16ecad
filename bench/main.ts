/** The benchmarks' command line: `npm run bench -- NAME [options]`. */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import type { Benchmark } from './benchmark.js';
import { catalogue } from './catalogue.js';
import { coldStart } from './cold-start.js';
import { eventLoop } from './event-loop.js';
import { httpOverhead } from './http-overhead.js';
import { mixedBatch } from './mixed-batch.js';
import { SHAPES, benchModel } from './shapes.js';
import type { ShapeName } from './shapes.js';
import { startup } from './startup.js';
import { describeMachine } from './support/machine.js';
import { reportJson, reportMarkdown, reportText } from './support/report.js';

const BENCHMARKS: readonly Benchmark[] = [mixedBatch, httpOverhead, eventLoop, coldStart, startup, catalogue];

interface Options {
  readonly json: boolean;
  readonly markdown: boolean;
  readonly quick: boolean;
  readonly full: boolean;
  readonly shape?: ShapeName;
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
  const { quick, full, seed, work } = options;
  const shape = options.shape ?? benchmark.shape;
  const machine = describeMachine();
  const date = new Date().toISOString();
  const started = performance.now();
  const progress = (text: string): void => {
    process.stderr.write(`${benchmark.name}: ${text}\n`);
  };
  const workFolder = resolve(work);
  progress(`model of shape ${shape}`);
  const model = benchModel(shape, seed, workFolder);
  const findings = await benchmark.run({ model, seed, quick, full, workFolder, progress });
  const seconds = Math.round((performance.now() - started) / 1000);
  // Goals are set for one shape: at another one, meeting or missing them says nothing.
  const verdicts = shape === benchmark.shape ? findings.verdicts : [];
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
  .option('--seed <number>', 'of models, adapters and inputs', wholeNumber, 1)
  .option(
    '--work <folder>',
    'where models and compiled forms are kept (2 GB)',
    fileURLToPath(new URL('../../.cache/bench', import.meta.url)),
  )
  .addHelpText('after', `\nBenchmarks:\n${list()}`)
  .action(async (name: string | undefined, options: Options) => {
    const benchmark = BENCHMARKS.find((one) => one.name === name);
    if (benchmark) await runBenchmark(benchmark, options);
    else process.stdout.write(`Benchmarks (npm run bench -- NAME):\n${list()}\n`);
  });

// Leaving in order ends the servers and clients that were started.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

await program.parseAsync();
