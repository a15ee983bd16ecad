/** Medians and spreads of measured values, and the alternation that makes two sides of a ratio comparable. */

export interface Spread {
  readonly count: number;
  readonly min: number;
  readonly median: number;
  readonly p90: number;
  /** Median absolute deviation from the median. */
  readonly mad: number;
}

/** Linear between the two nearest values; NaN of nothing. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const below = sorted.at(Math.floor(at)) ?? NaN;
  const above = sorted.at(Math.ceil(at)) ?? NaN;
  return below + (above - below) * (at - Math.floor(at));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function spread(values: readonly number[]): Spread {
  const middle = median(values);
  return {
    count: values.length,
    min: quantile(values, 0),
    median: middle,
    p90: quantile(values, 0.9),
    mad: median(values.map((value) => Math.abs(value - middle))),
  };
}

/** a[i] / b[i]: both were measured in the same round, so that what slows the machine for a while slows both. */
export function ratios(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, round) => value / (b.at(round) ?? NaN));
}

export interface Side<T> {
  readonly name: string;
  /** `round` counts from 0, warm-up included. */
  measure(round: number): Promise<T>;
}

export interface Rounds {
  /** Rounds run first and thrown away. */
  readonly warmUp: number;
  readonly rounds: number;
  /** No further round begins after this time, unless fewer than `MIN_ROUNDS` are done. */
  readonly maxSeconds: number;
}

const MIN_ROUNDS = 3;

/** Measures every side once a round, back and forth: A B, B A, … Returns each side's values by name. */
export async function alternate<T>(
  sides: readonly Side<T>[],
  { warmUp, rounds, maxSeconds }: Rounds,
): Promise<Map<string, T[]>> {
  const values = new Map(sides.map((side) => [side.name, [] as T[]]));
  const stopAt = performance.now() + maxSeconds * 1000;
  for (let round = 0; round < warmUp + rounds; round++) {
    if (round >= warmUp + MIN_ROUNDS && performance.now() > stopAt) break;
    const order = round % 2 === 0 ? sides : [...sides].reverse();
    for (const side of order) {
      const value = await side.measure(round);
      if (round >= warmUp) values.get(side.name)?.push(value);
    }
  }
  return values;
}
