/**
 * Owns the requests whose adapter is not resident: each waits for its own lease, and after an executor reset
 * for the executor to be ready and the lease to be ready again.
 */
import { PapillonError } from '../errors.js';
import type { ActiveRequest } from './active-request.js';

export interface LeaseGateOptions {
  /** Operands can be made resident now. */
  readonly canLoad: () => boolean;
  readonly onReady: (request: ActiveRequest) => void;
  readonly onFailed: (request: ActiveRequest, error: unknown) => void;
}

export class LeaseGate {
  readonly #options: LeaseGateOptions;
  readonly #held = new Set<ActiveRequest>();
  /** Counts resets: what was awaited before the last one no longer says anything. */
  #generation = 0;

  constructor(options: LeaseGateOptions) {
    this.#options = options;
  }

  /** True if the request may run now; else it is held, and `onReady` or `onFailed` follows. */
  admit(request: ActiveRequest): boolean {
    if (request.lease === null) return true;
    if (this.#held.has(request)) return false;
    if (request.lease.ready) return true;
    this.#held.add(request);
    if (this.#options.canLoad()) void this.#await(request);
    return false;
  }

  /** Nothing is resident any more: holds these requests until `resume`. */
  reset(requests: Iterable<ActiveRequest>): void {
    this.#generation += 1;
    for (const request of requests) if (request.lease !== null) this.#held.add(request);
  }

  /** The executor is ready: everything held asks for its operands (again). */
  resume(): void {
    for (const request of [...this.#held]) void this.#await(request);
  }

  forget(request: ActiveRequest): void {
    this.#held.delete(request);
  }

  async #await(request: ActiveRequest): Promise<void> {
    const generation = this.#generation;
    const isCurrent = (): boolean => generation === this.#generation && this.#held.has(request);
    try {
      if (request.lease?.ready === false) await request.lease.whenReady();
    } catch (error) {
      // A load that the lost worker took with it is asked for again by `resume`.
      const isLost =
        error instanceof PapillonError && error.code === 'ENGINE_RESTARTED' && !this.#options.canLoad();
      if (!isCurrent() || isLost) return;
      this.#held.delete(request);
      this.#options.onFailed(request, error);
      return;
    }
    if (!isCurrent()) return;
    this.#held.delete(request);
    this.#options.onReady(request);
  }
}
