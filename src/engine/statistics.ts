/** Owns the cumulative figures of each model: the base for good, adapters as long as they are among the recent. */
import type { ModelStatistics } from '../types.js';

interface Tally {
  count: number;
  ns: number;
}

interface Figures {
  readonly name: string;
  version: string | null;
  lastInference: number;
  inferenceCount: number;
  executionCount: number;
  readonly success: Tally;
  readonly fail: Tally;
  readonly queue: Tally;
  readonly computeInput: Tally;
  readonly computeInfer: Tally;
  readonly computeOutput: Tally;
  readonly batches: Map<number, { count: number; inferNs: number }>;
}

/** What an answered request adds. Times in milliseconds. */
export interface AnsweredRequest {
  readonly version: string | null;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly rows: number;
  readonly totalMs: number;
  readonly queueMs: number;
  readonly assembleMs: number;
  readonly inferenceMs: number;
  readonly outputMs: number;
}

export class Statistics {
  readonly #baseId: string;
  readonly #maxAdapters: number;
  readonly #base: Figures;
  /** In order of last use, the oldest first. */
  readonly #adapters = new Map<string, Figures>();

  /** Figures of adapters beyond `maxAdapters` are dropped, the least recently used first. */
  constructor(options: { readonly baseId: string; readonly maxAdapters: number }) {
    this.#baseId = options.baseId;
    this.#maxAdapters = options.maxAdapters;
    this.#base = noFigures(options.baseId);
  }

  /** `adapterId` null: the base. */
  answered(adapterId: string | null, request: AnsweredRequest): void {
    const figures = this.#of(adapterId);
    figures.version = request.version;
    figures.lastInference = request.at;
    figures.inferenceCount += request.rows;
    tally(figures.success, request.totalMs);
    tally(figures.queue, request.queueMs);
    tally(figures.computeInput, request.assembleMs);
    tally(figures.computeInfer, request.inferenceMs);
    tally(figures.computeOutput, request.outputMs);
  }

  failed(adapterId: string | null, totalMs: number): void {
    tally(this.#of(adapterId).fail, totalMs);
  }

  /** A batch of `rows` rows ran that held rows of each of these models. */
  executed(adapterIds: ReadonlySet<string | null>, rows: number, inferenceMs: number): void {
    for (const adapterId of adapterIds) {
      const figures = this.#of(adapterId);
      figures.executionCount += 1;
      const batch = figures.batches.get(rows) ?? { count: 0, inferNs: 0 };
      batch.count += 1;
      batch.inferNs += toNs(inferenceMs);
      figures.batches.set(rows, batch);
    }
  }

  /** One model's figures: zeros if it was not used lately. */
  one(id: string): ModelStatistics {
    return frozen(id === this.#baseId ? this.#base : (this.#adapters.get(id) ?? noFigures(id)));
  }

  /** The base and every adapter that was used lately. */
  all(): ModelStatistics[] {
    return [this.#base, ...this.#adapters.values()].map(frozen);
  }

  #of(adapterId: string | null): Figures {
    if (adapterId === null) return this.#base;
    const figures = this.#adapters.get(adapterId) ?? noFigures(adapterId);
    this.#adapters.delete(adapterId);
    this.#adapters.set(adapterId, figures);
    if (this.#adapters.size > this.#maxAdapters) {
      for (const oldest of this.#adapters.keys()) {
        this.#adapters.delete(oldest);
        break;
      }
    }
    return figures;
  }
}

function noFigures(name: string): Figures {
  return {
    name,
    version: null,
    lastInference: 0,
    inferenceCount: 0,
    executionCount: 0,
    success: { count: 0, ns: 0 },
    fail: { count: 0, ns: 0 },
    queue: { count: 0, ns: 0 },
    computeInput: { count: 0, ns: 0 },
    computeInfer: { count: 0, ns: 0 },
    computeOutput: { count: 0, ns: 0 },
    batches: new Map(),
  };
}

function tally(sum: Tally, ms: number): void {
  sum.count += 1;
  sum.ns += toNs(ms);
}

function toNs(ms: number): number {
  return Math.round(ms * 1e6);
}

function frozen(figures: Figures): ModelStatistics {
  return {
    ...figures,
    success: { ...figures.success },
    fail: { ...figures.fail },
    queue: { ...figures.queue },
    computeInput: { ...figures.computeInput },
    computeInfer: { ...figures.computeInfer },
    computeOutput: { ...figures.computeOutput },
    batches: [...figures.batches]
      .sort(([a], [b]) => a - b)
      .map(([rows, { count, inferNs }]) => ({ rows, count, inferNs })),
  };
}
