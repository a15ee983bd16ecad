/** `papillon serve`: opens the base, wires the parts, listens, and drains on SIGTERM. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { AdapterLoader, AdapterRegistry, NoAdapters, resolveAdaptersDirectory } from '../adapters/index.js';
import { ConfigError, GROUPS, OPTIONS, OPTION_KEYS, environmentOf, flagOf, loadConfig } from '../config.js';
import type { Config, Flags } from '../config.js';
import { Engine } from '../engine.js';
import { HttpServer, Lifecycle, answerWhileStarting, createApp } from '../http/index.js';
import { Metrics } from '../metrics.js';
import { OnnxExecutor, locateModel } from '../runtime/index.js';
import { createClassifyTask } from '../tasks/classify.js';
import type { ClassifyTask } from '../tasks/classify.js';
import type { AdapterSource, Logger } from '../types.js';
import { loadContext, traitsOf } from './base-context.js';
import { systemClock } from './clock.js';
import { createLogger } from './log.js';
import { VERSION, failWith } from './program.js';

export function serveCommand(): Command {
  const command = new Command('serve').description('Serve a base model and its adapters over HTTP.');
  for (const group of GROUPS) {
    for (const key of OPTION_KEYS.filter((name) => OPTIONS[name].group === group)) {
      const { kind, help, defaultText } = OPTIONS[key];
      const option = new Option(
        `${flagOf(key)} ${kind.placeholder}`,
        `${help} [${environmentOf(key)}; ${defaultText}]`,
      );
      if (kind.repeatable)
        option.argParser((value: string, all: string[] | undefined) => [...(all ?? []), value]);
      command.addOption(option.helpGroup(`${group}:`));
    }
  }
  return command
    .addOption(
      new Option(
        '--config <file>',
        'JSON file with any of these options by name. [PAPILLON_CONFIG]',
      ).helpGroup('Operation:'),
    )
    .addHelpText(
      'after',
      `
Every option can also be given as an environment variable or in the configuration file; a flag goes before the
environment, the environment before the file.

Examples:
  papillon serve --model models/demo-router --adapters adapters
  papillon serve --model model.onnx --adapters /srv/adapters --port 9000 --host-cache-bytes 4GiB --admin-token "$TOKEN"`,
    )
    .action(async (flags: Flags) => {
      await serve(loadConfig(flags, process.env));
    });
}

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/** A server under construction: what was opened so far, to be closed in reverse order. */
class Opened {
  private readonly closers: (() => Promise<void>)[] = [];

  add(close: () => Promise<void>): void {
    this.closers.unshift(close);
  }

  async close(): Promise<void> {
    for (const close of this.closers) await close();
  }
}

async function serve(config: Config): Promise<void> {
  const started = performance.now();
  const log = createLogger(config);
  const metrics = new Metrics({
    version: VERSION,
    ...(config.metricsAdapters && { adapterSeries: config.metricsAdapters }),
  });
  const location = locateModel(config.model);
  const root = config.adapters === null ? null : await adaptersDirectory(config.adapters);
  if (config.mode === 'merged')
    log.warn({}, 'this version applies adapters to activations: --mode merged has no effect yet');
  if (config.provider !== 'cpu')
    log.warn({ provider: config.provider }, 'providers other than cpu are experimental');

  const opened = new Opened();
  const lifecycle = new Lifecycle();
  let app: Parameters<typeof HttpServer.listen>[0] = answerWhileStarting;
  const server = await HttpServer.listen(
    (req, res) => {
      app(req, res);
    },
    {
      host: config.host,
      port: config.port,
      lifecycle,
      clock: systemClock,
    },
  );
  let announceOpen: (engine: Engine) => void = () => undefined;
  const opening = new Promise<Engine>((resolve) => {
    announceOpen = resolve;
  });
  // From here on: as the first process of a container, Node would ignore signals that nothing listens to.
  drainOnSignal(config, server, opening, opened, log);
  log.info({ model: location.id, port: server.address.port }, `opening the base model '${location.id}'`);

  const executor = await OnnxExecutor.start({
    modelPath: config.model,
    servedName: config.servedName,
    cacheFolder: config.cacheDir,
    session: { provider: config.provider, threads: config.threads },
    log,
    observer: metrics,
  });
  opened.add(() => executor.close());
  reportBase(executor, log);
  metrics.setModel({ id: executor.model.id, digest: executor.model.digest, provider: config.provider });

  const adapters = await openAdapters(config, root, location.folder, executor, metrics, log, opened);
  const engine = new Engine({
    executor,
    adapters,
    clock: systemClock,
    log,
    observer: metrics,
    tuning: {
      maxBatchRows: config.maxBatchRows,
      maxBatchTokens: config.maxBatchTokens,
      maxQueue: config.maxQueue,
      defaultTimeoutMs: config.requestTimeoutMs,
    },
  });
  const classify = await openClassify(config, location.folder, engine, metrics, log, opened);

  app = createApp({
    engine,
    executorState: () => executor.state,
    lifecycle,
    classify,
    metrics,
    observer: metrics,
    logger: log,
    clock: systemClock,
    server: { name: 'papillon', version: VERSION },
    createdSeconds: Math.floor(systemClock.now() / 1000),
    adminToken: config.adminToken,
    apiKeys: config.apiKey,
    maxBodyBytes: config.maxBodyBytes,
  });
  announceOpen(engine);
  if (lifecycle.draining) return;
  const shown = config.host === '0.0.0.0' || config.host === '::' ? 'localhost' : config.host;
  log.info(
    {
      startMs: Math.round(performance.now() - started),
      adapters: adapters.list().length,
      admin: config.adminToken === null ? 'off' : 'on',
    },
    `ready on http://${shown}:${server.address.port}`,
  );
}

async function adaptersDirectory(given: string): Promise<string> {
  try {
    return await resolveAdaptersDirectory(given);
  } catch {
    throw new ConfigError(`--adapters: ${JSON.stringify(given)} does not exist or is not a folder`);
  }
}

function reportBase(executor: OnnxExecutor, log: Logger): void {
  const { model, lost, inseparable, probeError, cached, temporaryCache, openMs } = executor.opened;
  const linear = model.modules.filter((module) => module.kind === 'linear').length;
  log.info(
    {
      model: model.id,
      digest: model.digest,
      modules: linear,
      ...model.layout,
      cached,
      openMs: Math.round(openMs),
    },
    cached ? 'base model opened from the compiled-model cache' : 'base model compiled and opened',
  );
  if (temporaryCache) {
    log.warn({}, 'the compiled-model cache cannot be written: compiled anew at each start (see --cache-dir)');
  }
  if (lost.length > 0) log.warn({ modules: lost }, 'these modules cannot be adapted in the optimised graph');
  const kinds = new Map(model.modules.map((module) => [module.name, module.kind]));
  const alone = inseparable.filter((name) => kinds.get(name) === 'linear');
  if (alone.length > 0) {
    log.warn(
      { modules: alone },
      'adapters of these modules get a batch of their own: rows cannot be told apart there',
    );
  }
  if (probeError !== null) {
    log.warn({ reason: probeError }, 'the base could not be probed: requests are not batched');
  }
}

async function openAdapters(
  config: Config,
  root: string | null,
  modelFolder: string,
  executor: OnnxExecutor,
  metrics: Metrics,
  log: Logger,
  opened: Opened,
): Promise<AdapterSource> {
  if (root === null) return new NoAdapters();
  const loader = new AdapterLoader(
    loadContext(root, modelFolder, traitsOf(executor), {
      maxOperandBytes: config.hostCacheBytes,
      selfCheck: config.selfCheck === 'on',
    }),
  );
  opened.add(() => loader.close());
  const registry = await AdapterRegistry.open({
    root,
    executor,
    loader,
    clock: systemClock,
    hostCacheBytes: config.hostCacheBytes,
    logger: log,
    observer: metrics,
  });
  opened.add(() => {
    registry.close();
    return Promise.resolve();
  });
  await Promise.all(
    config.pin.map(async (id) => {
      try {
        await registry.configure(id, { pinned: true });
      } catch (error) {
        log.error({ adapter: id, err: error }, 'the adapter named by --pin cannot be loaded');
      }
    }),
  );
  return registry;
}

async function openClassify(
  config: Config,
  folder: string,
  engine: Engine,
  metrics: Metrics,
  log: Logger,
  opened: Opened,
): Promise<{ readonly task: ClassifyTask } | { readonly task: null; readonly reason: string }> {
  if (!existsSync(join(folder, 'tokenizer.json'))) {
    return { task: null, reason: 'Text classification is off: the model folder has no tokenizer.json.' };
  }
  const outcome = await createClassifyTask({
    folder,
    model: engine.model,
    infer: (request) => engine.infer(request),
    observer: metrics,
    ...(config.maxTextTokens !== null && { modelMaxLength: config.maxTextTokens }),
  });
  const { task } = outcome;
  if (task === null) log.info({}, outcome.reason);
  else opened.add(() => task.close());
  return outcome;
}

function drainOnSignal(
  config: Config,
  server: HttpServer,
  opening: Promise<Engine>,
  opened: Opened,
  log: Logger,
): void {
  let isDraining = false;
  const drain = async (signal: string): Promise<void> => {
    if (isDraining) {
      log.warn({ signal }, 'second signal: ending at once');
      // process.exit would tear down threads in the middle of a run, and ONNX Runtime aborts.
      process.kill(process.pid, 'SIGKILL');
      return;
    }
    isDraining = true;
    log.info({ signal, graceMs: config.drainTimeoutMs }, 'draining: no new requests, those under way finish');
    const serverDrained = server.drain(config.drainTimeoutMs);
    // What is being opened is opened to its end, for the same reason.
    const engineDrained = (await opening).drain();
    await serverDrained;
    const grace = new Promise<void>((resolve) => setTimeout(resolve, 2_000).unref());
    await Promise.race([engineDrained, grace]);
    await opened.close();
    log.info({}, 'drained');
    process.exit(0);
  };
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      drain(signal).catch(failWith);
    });
  }
}
