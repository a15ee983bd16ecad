/** Answers while the base is being opened: alive, not ready. */
import type { IncomingMessage, ServerResponse } from 'node:http';

const ALIVE = new Set(['/healthz', '/v2/health/live']);

export function answerWhileStarting(req: IncomingMessage, res: ServerResponse): void {
  const path = (req.url ?? '/').split('?')[0] ?? '/';
  const isAlive = ALIVE.has(path);
  const body = isAlive
    ? { status: 'alive' }
    : { error: 'the base model is being opened: try again in a moment', status: 'starting' };
  res.writeHead(isAlive ? 200 : 503, {
    'content-type': 'application/json',
    ...(!isAlive && { 'retry-after': '1' }),
  });
  res.end(JSON.stringify(body));
}
