/**
 * Owns the listening socket and its orderly end: probes fail and say so at once, requests under way finish,
 * then the socket closes.
 */
import { createServer } from 'node:http';
import type { RequestListener, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PapillonError } from '../errors.js';
import type { Clock } from '../types.js';
import type { Lifecycle } from './lifecycle.js';

export interface ServerOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly lifecycle: Lifecycle;
  readonly clock: Clock;
}

/** Against clients that send slowly, in milliseconds. Waiting for an answer is not limited here. */
const HEADERS_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 120_000;
/** Longer than the idle time of common load balancers, so that they, not we, close a connection first. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000;
const MAX_HEADERS = 100;
/** Connections without a request get this long once the last request is answered. */
const LINGER_MS = 1000;

const LISTEN_REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is already in use; choose another with --port',
  EACCES: 'may not be used by this account; choose one from 1024 up with --port',
  EADDRNOTAVAIL: 'cannot be opened on that address; choose another with --host',
  ENOTFOUND: 'cannot be opened: the host is not known; choose another with --host',
};

export class HttpServer {
  readonly #server: Server;
  readonly #lifecycle: Lifecycle;
  readonly #clock: Clock;
  readonly #active = new Set<ServerResponse>();
  #drained: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;
  #address: AddressInfo = { address: '', family: '', port: 0 };

  /** Resolves when requests are accepted. Rejects with CONFIG_INVALID where the address cannot be used. */
  static async listen(app: RequestListener, options: ServerOptions): Promise<HttpServer> {
    const server = new HttpServer(app, options);
    await server.#listen(options.host, options.port);
    return server;
  }

  private constructor(app: RequestListener, { lifecycle, clock }: ServerOptions) {
    this.#lifecycle = lifecycle;
    this.#clock = clock;
    this.#server = createServer({
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    });
    this.#server.maxHeadersCount = MAX_HEADERS;
    this.#server.on('request', (_req, res) => {
      this.#begin(res);
    });
    this.#server.on('request', app);
  }

  /** Where it listens, or listened until it was drained. */
  get address(): AddressInfo {
    return this.#address;
  }

  /**
   * Readiness fails from now on and new work is refused, each answer with `Connection: close`; resolves when
   * the requests under way are answered. After `graceMs` the connections left are cut.
   */
  drain(graceMs: number): Promise<void> {
    this.#drained ??= this.#drain(graceMs);
    return this.#drained;
  }

  async #drain(graceMs: number): Promise<void> {
    this.#lifecycle.beginDrain();
    for (const res of this.#active) closeAfter(res);
    this.#server.closeIdleConnections();
    const idle = new Promise<void>((resolve) => {
      this.#whenIdle = resolve;
    });
    if (this.#active.size === 0) this.#whenIdle?.();
    const cancelGrace = this.#clock.after(graceMs, () => {
      this.#server.closeAllConnections();
    });
    // Until then probes are answered; now the socket closes.
    await idle;
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
    this.#server.closeIdleConnections();
    // What is left are last bytes on their way, and connections that never asked for anything.
    const cancelLinger = this.#clock.after(LINGER_MS, () => {
      this.#server.closeAllConnections();
    });
    await closed;
    cancelLinger();
    cancelGrace();
  }

  #begin(res: ServerResponse): void {
    this.#active.add(res);
    if (this.#lifecycle.draining) closeAfter(res);
    res.once('close', () => {
      this.#active.delete(res);
      if (!this.#lifecycle.draining) return;
      // An answer that was begun before the drain left its connection open.
      this.#server.closeIdleConnections();
      if (this.#active.size === 0) this.#whenIdle?.();
    });
  }

  #listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const refuse = (error: NodeJS.ErrnoException): void => {
        const reason =
          LISTEN_REASONS[error.code ?? ''] ?? `cannot be opened (${error.code ?? error.message})`;
        reject(new PapillonError('CONFIG_INVALID', `Port ${port} ${reason}`, { cause: error }));
      };
      this.#server.once('error', refuse);
      this.#server.listen(port, host, () => {
        this.#server.off('error', refuse);
        this.#address = this.#server.address() as AddressInfo;
        resolve();
      });
    });
  }
}

function closeAfter(res: ServerResponse): void {
  if (!res.headersSent) res.setHeader('Connection', 'close');
}
