/** The real server as a process of its own, started as a user would: `papillon serve` with its defaults. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { HttpClient } from './http-client.js';
import type { HttpAnswer } from './http-client.js';

const ENTRY = fileURLToPath(new URL('../../../dist/main.js', import.meta.url));
const POLL_MS = 4;
const START_LIMIT_MS = 120_000;
const STOP_LIMIT_MS = 10_000;

export interface ServerOptions {
  readonly modelFolder: string;
  readonly cacheFolder: string;
  readonly adaptersFolder?: string;
  readonly flags?: readonly string[];
}

/** No server outlives the benchmark, however that ends. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** One scrape of /metrics: `name{labels}` → value. */
export type Scrape = ReadonlyMap<string, number>;

export class ServerProcess {
  private constructor(
    readonly port: number,
    /** From spawn to the first 200 of /readyz. */
    readonly readyMs: number,
    private readonly child: ChildProcess,
    private readonly client: HttpClient,
  ) {}

  /** Resolves when /readyz answers 200. Rejects with what the server wrote to stderr when it ends before. */
  static async start({
    modelFolder,
    cacheFolder,
    adaptersFolder,
    flags = [],
  }: ServerOptions): Promise<ServerProcess> {
    const port = await freePort();
    const adapters = adaptersFolder === undefined ? [] : ['--adapters', adaptersFolder];
    const args = ['serve', '--model', modelFolder, '--cache-dir', cacheFolder, ...adapters];
    const listen = ['--host', '127.0.0.1', '--port', String(port)];
    const started = performance.now();
    // Logs are written as usual, but to nowhere.
    const child = spawn(process.execPath, [ENTRY, ...args, ...listen, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', (part: Buffer) => (errors += part.toString()));
    running.add(child);
    child.once('exit', () => running.delete(child));
    const client = new HttpClient(port, 1);
    while ((await statusOf(client)) !== 200) {
      const waitedMs = performance.now() - started;
      if (child.exitCode !== null || waitedMs > START_LIMIT_MS) {
        child.kill('SIGKILL');
        throw new Error(`the server did not become ready: ${errors.trim()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return new ServerProcess(port, performance.now() - started, child, client);
  }

  get(path: string): Promise<HttpAnswer> {
    return this.client.get(path);
  }

  async scrape(): Promise<Scrape> {
    const { body } = await this.client.get('/metrics');
    const lines = body.toString().split('\n');
    return new Map(
      lines
        .filter((line) => line !== '' && !line.startsWith('#'))
        .map((line): [string, number] => {
          const at = line.lastIndexOf(' ');
          return [line.slice(0, at), Number(line.slice(at + 1))];
        }),
    );
  }

  async stop(): Promise<void> {
    this.client.close();
    if (this.child.exitCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const giveUp = setTimeout(() => this.child.kill('SIGKILL'), STOP_LIMIT_MS);
    await exited;
    clearTimeout(giveUp);
  }
}

/** Runs `use` with a server and stops it whatever happens. */
export async function withServer<T>(
  options: ServerOptions,
  use: (server: ServerProcess) => Promise<T>,
): Promise<T> {
  const server = await ServerProcess.start(options);
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

/** Sum over all series of a metric, whatever their labels. */
export function total(scrape: Scrape, name: string): number {
  let sum = 0;
  for (const [series, value] of scrape) if (series === name || series.startsWith(`${name}{`)) sum += value;
  return sum;
}

/** How much a counter grew from one scrape to the next. */
export function growth(before: Scrape, after: Scrape, name: string): number {
  return total(after, name) - total(before, name);
}

async function statusOf(client: HttpClient): Promise<number> {
  try {
    return (await client.get('/readyz')).status;
  } catch {
    return 0;
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
