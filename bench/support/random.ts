/** Seeded random numbers, so that every run of a benchmark draws the same models, adapters and inputs. */

const TWO_TO_32 = 2 ** 32;

export class Random {
  #state: number;
  #spare: number | null = null;

  /** Equal seeds give equal sequences; `stream` keeps the sequences of different things apart. */
  constructor(seed: number, stream = 0) {
    this.#state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(stream + 1, 0x85ebca6b)) >>> 0;
    for (let i = 0; i < 8; i++) this.uint32();
  }

  /** Uniform over [0, 2^32): a counter whose bits are mixed. */
  uint32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  }

  /** Uniform over [0, 1). */
  uniform(): number {
    return this.uint32() / TWO_TO_32;
  }

  /** Uniform over the integers [from, to). */
  integer(from: number, to: number): number {
    return from + Math.floor(this.uniform() * (to - from));
  }

  /** Normal with mean 0 and standard deviation 1 (Box and Muller: two draws give two values). */
  normal(): number {
    if (this.#spare !== null) {
      const spare = this.#spare;
      this.#spare = null;
      return spare;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  fillNormal(target: Float32Array, mean: number, deviation: number): void {
    for (let i = 0; i < target.length; i++) target[i] = mean + deviation * this.normal();
  }
}

/** Draws ranks 0 … count − 1 with probability proportional to 1 / (rank + 1)^exponent. */
export function zipf(random: Random, count: number, exponent: number): () => number {
  const cumulative: number[] = [];
  let total = 0;
  for (let rank = 0; rank < count; rank++) {
    total += (rank + 1) ** -exponent;
    cumulative.push(total);
  }
  return () => {
    const at = random.uniform() * total;
    return cumulative.findIndex((limit) => at < limit);
  };
}
