/** The Python process in which PEFT is measured: one command at a time, one answer each. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { CannotMeasure } from '../benchmark.js';
import type { BertShape } from '../support/bert-graph.js';

const SCRIPT = fileURLToPath(new URL('../../../bench/peft/measure.py', import.meta.url));
const REQUIREMENTS = 'bench/peft/requirements.txt';
const ERROR_TAIL = 2000;

const versionsSchema = z.record(z.string(), z.string().nullable());

const aboutSchema = z.object({
  versions: versionsSchema,
  python: z.string(),
  threads: z.number(),
  /** Library and instruction set, from `torch.__config__.show()`. */
  blas: z.string(),
  /** Of a large float32 matrix product. */
  gflops: z.number(),
  /** Of each adapter in the order given; the first also wraps the model. */
  loadMs: z.array(z.number()),
  permutationMb: z.number(),
});

const timedSchema = z.object({ ms: z.number() });

const forwardSchema = timedSchema.extend({ logits: z.array(z.number()), standInMs: z.number() });

export type About = Readonly<z.infer<typeof aboutSchema>>;
export type Forward = Readonly<z.infer<typeof forwardSchema>>;

/** Where a parameter of the model lies in the file of weights. */
export interface WeightPlace {
  readonly offset: number;
  /** As stored. */
  readonly shape: readonly number[];
  /** Stored as [in, out], where PyTorch has [out, in]. */
  readonly transposed: boolean;
}

export interface OpenOrder {
  readonly shape: BertShape;
  /** File that all weights are in. */
  readonly data: string;
  /** By PyTorch's name. */
  readonly weights: Readonly<Record<string, WeightPlace>>;
  /** Folder by name; the first is active at first. */
  readonly adapters: Readonly<Record<string, string>>;
  readonly ids: readonly number[];
  readonly threads: number;
}

/** Throws CannotMeasure unless the interpreter runs and has what is needed. Takes well under a second. */
export function checkPython(python: string): void {
  const { error, status, stdout, stderr } = spawnSync(python, [SCRIPT, '--check'], { encoding: 'utf8' });
  if (error)
    throw new CannotMeasure(`${python} cannot be run (${error.message}). ${howToInstall('python3')}`);
  if (status !== 0) {
    throw new CannotMeasure(`${python} ended with ${String(status)}: ${stderr.trim().slice(-ERROR_TAIL)}`);
  }
  const versions = versionsSchema.parse(JSON.parse(stdout));
  const missing = Object.keys(versions).filter((name) => versions[name] === null);
  if (missing.length === 0) return;
  const are = missing.length === 1 ? 'is' : 'are';
  throw new CannotMeasure(
    `${missing.join(', ')} ${are} not installed for ${python}. ${howToInstall(python)}`,
  );
}

function howToInstall(python: string): string {
  return (
    'Install what PEFT is measured with in an environment of its own and name its interpreter:\n' +
    `  ${python} -m venv .venv && .venv/bin/pip install -r ${REQUIREMENTS}\n` +
    '  npm run bench -- peft --python .venv/bin/python'
  );
}

interface Waiting {
  resolve(line: string): void;
  reject(error: Error): void;
}

export class PeftProcess {
  readonly #child: ChildProcess;
  #waiting: Waiting | null = null;
  #errors = '';

  private constructor(python: string) {
    const child = spawn(python, [SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child = child;
    process.once('exit', () => child.kill('SIGKILL'));
    child.stderr.on('data', (part: Buffer) => {
      this.#errors = (this.#errors + part.toString()).slice(-ERROR_TAIL);
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.#settle()?.resolve(line);
    });
    child.once('error', (error) => this.#settle()?.reject(error));
    child.once('close', (code) => {
      this.#settle()?.reject(new Error(`PEFT's process ended with ${String(code)}: ${this.#errors.trim()}`));
    });
    // Its end is told by `close`.
    child.stdin.on('error', () => undefined);
  }

  /** Builds the model in PyTorch and loads the adapters with PEFT. */
  static async open(python: string, order: OpenOrder): Promise<{ peft: PeftProcess; about: About }> {
    const peft = new PeftProcess(python);
    try {
      return { peft, about: aboutSchema.parse(await peft.#ask({ op: 'open', ...order })) };
    } catch (error) {
      peft.close();
      throw error;
    }
  }

  /** One row through the model with adapters switched off. */
  async base(): Promise<Forward> {
    return forwardSchema.parse(await this.#ask({ op: 'base' }));
  }

  /** The same with the active adapter, merged or not. */
  async forward(): Promise<Forward> {
    return forwardSchema.parse(await this.#ask({ op: 'forward' }));
  }

  /** Milliseconds of `set_adapter`. */
  async activate(adapter: string): Promise<number> {
    return timedSchema.parse(await this.#ask({ op: 'activate', adapter })).ms;
  }

  /** Milliseconds of `merge_adapter` for the active adapter. */
  async merge(): Promise<number> {
    return timedSchema.parse(await this.#ask({ op: 'merge' })).ms;
  }

  /** Milliseconds of `unmerge_adapter`. */
  async unmerge(): Promise<number> {
    return timedSchema.parse(await this.#ask({ op: 'unmerge' })).ms;
  }

  close(): void {
    this.#child.kill('SIGKILL');
  }

  async #ask(command: object): Promise<unknown> {
    if (this.#waiting) throw new Error('one command at a time');
    const line = await new Promise<string>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    });
    return JSON.parse(line) as unknown;
  }

  #settle(): Waiting | null {
    const waiting = this.#waiting;
    this.#waiting = null;
    return waiting;
  }
}
