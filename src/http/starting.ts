/** Owns the answers while the base is being opened, before there is an app: alive, not ready. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PapillonError } from '../errors.js';
import { encodeError } from '../protocols/open-inference/index.js';
import { encodeOpenAiError } from '../protocols/openai/index.js';

const ALIVE: Readonly<Record<string, object>> = {
  '/healthz': { status: 'ok' },
  '/v2/health/live': { live: true },
};
const NOT_READY: Readonly<Record<string, object>> = {
  '/readyz': { status: 'not ready', reason: 'starting' },
  '/v2/health/ready': { ready: false },
};

/** Everything but liveness is 503, in the shape of the protocol that was spoken. */
export function answerWhileStarting(req: IncomingMessage, res: ServerResponse): void {
  const path = (req.url ?? '/').split('?', 1)[0] ?? '/';
  const error = new PapillonError('NOT_READY', 'The base model is being opened: try again in a moment');
  const shape =
    path === '/v2' || path.startsWith('/v2/') ? encodeError(error.message) : encodeOpenAiError(error);
  const alive = Object.hasOwn(ALIVE, path) ? ALIVE[path] : undefined;
  const notReady = Object.hasOwn(NOT_READY, path) ? NOT_READY[path] : undefined;
  res.writeHead(alive === undefined ? error.status : 200, {
    'Content-Type': 'application/json',
    ...(alive === undefined ? { 'Retry-After': '1' } : {}),
  });
  res.end(JSON.stringify(alive ?? notReady ?? shape));
}
