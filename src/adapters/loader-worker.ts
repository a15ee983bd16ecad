/** The loader's thread: reads one adapter after another as told, and hands the operands' buffers over. */
import { parentPort, workerData } from 'node:worker_threads';
import { toPlainError, type PlainError } from '../errors.js';
import {
  buffersOf,
  inspectAdapter,
  loadAdapter,
  type AdapterSummary,
  type LoadContext,
  type LoadedAdapter,
} from './load-adapter.js';

export interface LoaderRequest {
  /** `inspect` checks configuration, header and shapes only. */
  readonly operation: 'load' | 'inspect';
  /** Relative to the adapters directory. */
  readonly folder: string;
}

export type LoaderReply =
  | { readonly loaded: LoadedAdapter }
  | { readonly summary: AdapterSummary }
  | { readonly error: PlainError };

/** Names in the files may be as long as the header. */
const MAX_MESSAGE_CHARACTERS = 1000;

const context = workerData as LoadContext;

parentPort?.on('message', ({ operation, folder }: LoaderRequest) => {
  try {
    if (operation === 'inspect') {
      reply({ summary: inspectAdapter(context, folder) }, []);
    } else {
      const loaded = loadAdapter(context, folder);
      reply({ loaded }, buffersOf(loaded.operands));
    }
  } catch (error) {
    const { code, message } = toPlainError(error);
    const shown = code === 'INTERNAL' ? 'The adapter’s files could not be read.' : message;
    reply({ error: { code, message: shown.slice(0, MAX_MESSAGE_CHARACTERS) } }, []);
  }
});

function reply(message: LoaderReply, buffers: ArrayBuffer[]): void {
  parentPort?.postMessage(message, buffers);
}
