/** What a benchmark is given and what it gives. */
import type { BenchModel, ShapeName } from './shapes.js';
import type { Findings } from './support/report.js';

export interface BenchOptions {
  readonly model: BenchModel;
  readonly seed: number;
  /** A few rounds only: shows that the benchmark runs, its figures are rough. */
  readonly quick: boolean;
  /** Every combination instead of the chosen ones; takes long. */
  readonly full: boolean;
  /** Where models, adapters and compiled forms are kept between runs. */
  readonly workFolder: string;
  /** Says what is being done. */
  readonly progress: (text: string) => void;
}

export interface Benchmark {
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** The base that its goals are set for. */
  readonly shape: ShapeName;
  run(options: BenchOptions): Promise<Findings>;
}
