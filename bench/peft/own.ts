/** Papillon's side of the comparison: the executor with adapters resident, and one row for it. */
import { availableParallelism } from 'node:os';
import type { OnnxExecutor } from '#dist/runtime/executor.js';
import type { TensorMap } from '#dist/types.js';
import type { BenchModel } from '../shapes.js';
import { openExecutor } from '../support/executor.js';
import { openLoader } from '../support/loader.js';

/** Milliseconds, one entry a run. */
export interface OwnTimes {
  /** Of every adapter but the first, from its files to resident. */
  readonly load: number[];
  readonly base: number[];
  /** Requests of the adapter that the one before was for. */
  readonly steady: number[];
  /** Requests of another adapter than the one before. */
  readonly switched: number[];
}

export class Own {
  readonly times: OwnTimes = { load: [], base: [], steady: [], switched: [] };

  private constructor(
    readonly executor: OnnxExecutor,
    readonly inputs: TensorMap,
    readonly adapters: readonly string[],
  ) {}

  /** @param adapters folders in `root`. */
  static async open(
    model: BenchModel,
    root: string,
    adapters: readonly string[],
    inputs: TensorMap,
  ): Promise<Own> {
    const loader = openLoader(model, root);
    const executor = await openExecutor(model, availableParallelism());
    const own = new Own(executor, inputs, adapters);
    try {
      for (const folder of adapters) {
        const started = performance.now();
        const { operands, parts } = await loader.load([{ folder, strength: 1 }]);
        await executor.attach({ key: folder, modules: operands, bytes: parts[0]?.bytes ?? 0 });
        own.times.load.push(performance.now() - started);
      }
      own.times.load.shift();
      return own;
    } catch (error) {
      await executor.close();
      throw error;
    } finally {
      await loader.close();
    }
  }

  /** @param adapter null: the base. */
  async run(adapter: string | null): Promise<{ ms: number; logits: readonly number[] }> {
    const started = performance.now();
    const result = await this.executor.run({
      items: [{ adapterKey: adapter, inputs: this.inputs, rows: 1 }],
    });
    const ms = performance.now() - started;
    if ((result.plan === 'base') !== (adapter === null)) {
      throw new Error('a batch ran another graph than it was meant to');
    }
    const logits = result.outputs[0]?.get('logits')?.data;
    if (!(logits instanceof Float32Array)) throw new Error('the model gave no logits');
    return { ms, logits: [...logits] };
  }

  async warmUp(rounds: number): Promise<void> {
    await this.measure(rounds);
    for (const times of [this.times.base, this.times.steady, this.times.switched]) times.length = 0;
  }

  /** A A B B …: the first of a pair follows the other adapter, the second itself. Then the base as often. */
  async measure(rounds: number): Promise<void> {
    for (let i = 0; i < rounds; i++) {
      for (const adapter of this.adapters) {
        const switched = await this.run(adapter);
        const steady = await this.run(adapter);
        // The very first follows the base.
        if (i > 0 || adapter !== this.adapters[0]) {
          this.times.switched.push(switched.ms);
          this.times.steady.push(steady.ms);
        }
      }
    }
    for (let i = 0; i < rounds; i++) this.times.base.push((await this.run(null)).ms);
  }
}
