/**
 * Owns what keeps label values bounded: a cap on the values of any label, and the choice of the adapters that
 * are counted by name.
 */

/** The label value for everything that has no series of its own. */
export const OTHER = 'other';

/** Lets the first `limit` values of a label through; later ones become `other`. */
export class BoundedLabel {
  readonly #seen = new Set<string>();

  constructor(private readonly limit: number) {}

  value(value: string): string {
    if (this.#seen.has(value)) return value;
    if (this.#seen.size >= this.limit) return OTHER;
    this.#seen.add(value);
    return value;
  }
}

/** Which adapters get a counter of their own: those named, or as many of the busiest. */
export type AdapterSeries = { readonly names: readonly string[] } | { readonly top: number };

/** Where a request is to be counted, and the series that ends because of it. */
export interface SeriesChoice {
  readonly label: string;
  /** An adapter that lost its series to a busier one. */
  readonly dropped: string | null;
}

/** Chooses the adapters that are counted by name. */
export interface AdapterChooser {
  choose(adapterId: string): SeriesChoice;
}

class NamedAdapters implements AdapterChooser {
  readonly #names: ReadonlySet<string>;

  constructor(names: readonly string[]) {
    this.#names = new Set(names);
  }

  choose(adapterId: string): SeriesChoice {
    return { label: this.#names.has(adapterId) ? adapterId : OTHER, dropped: null };
  }
}

/** Adapters whose requests are remembered; beyond that all counts are halved and the smallest forgotten. */
const MAX_COUNTED = 50_000;

/**
 * The `top` busiest adapters by name. A newcomer takes the least busy one's series once it has been asked for
 * twice as often, so that series do not flap. A series begins at 0 whenever it is (re)gained, which Prometheus
 * reads as a counter's reset: rates stay right.
 */
class BusiestAdapters implements AdapterChooser {
  readonly #counts = new Map<string, number>();
  readonly #listed = new Set<string>();

  constructor(private readonly top: number) {}

  choose(adapterId: string): SeriesChoice {
    const count = (this.#counts.get(adapterId) ?? 0) + 1;
    this.#counts.set(adapterId, count);
    if (this.#counts.size > MAX_COUNTED) this.#halve();
    if (this.#listed.has(adapterId)) return { label: adapterId, dropped: null };
    if (this.#listed.size < this.top) {
      this.#listed.add(adapterId);
      return { label: adapterId, dropped: null };
    }
    const least = this.#leastBusy();
    if (least === null || count < 2 * least.count) return { label: OTHER, dropped: null };
    this.#listed.delete(least.adapterId);
    this.#listed.add(adapterId);
    return { label: adapterId, dropped: least.adapterId };
  }

  #leastBusy(): { readonly adapterId: string; readonly count: number } | null {
    let least: { adapterId: string; count: number } | null = null;
    for (const adapterId of this.#listed) {
      const count = this.#counts.get(adapterId) ?? 0;
      if (least === null || count < least.count) least = { adapterId, count };
    }
    return least;
  }

  #halve(): void {
    for (const [adapterId, count] of this.#counts) {
      const half = Math.floor(count / 2);
      if (half > 0 || this.#listed.has(adapterId)) this.#counts.set(adapterId, half);
      else this.#counts.delete(adapterId);
    }
  }
}

export function createAdapterChooser(series: AdapterSeries): AdapterChooser {
  return 'names' in series ? new NamedAdapters(series.names) : new BusiestAdapters(series.top);
}
