/** The machine and the versions that figures were taken on. */
import { availableParallelism, cpus, loadavg, release, totalmem, type as systemName } from 'node:os';
import { RUNTIME_VERSION } from '#dist/runtime/session.js';

export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  readonly onnxruntimeNode: string;
  /** Over the last minute, as the benchmark begins: near 0 on a machine that does nothing else. */
  readonly loadAverage: number;
}

export function describeMachine(): Machine {
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${systemName()} ${release()}`,
    node: process.version,
    onnxruntimeNode: RUNTIME_VERSION,
    loadAverage: loadavg()[0] ?? 0,
  };
}
