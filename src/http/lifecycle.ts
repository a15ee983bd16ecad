/** Owns the one fact that a drain has begun: set once by the server, read by probes and routes. */
export class Lifecycle {
  #draining = false;

  get draining(): boolean {
    return this.#draining;
  }

  beginDrain(): void {
    this.#draining = true;
  }
}
