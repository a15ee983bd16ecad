/** Owns who may do what: API keys for everything but probes, the admin token for mutations. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Request, RequestHandler } from 'express';
import { PapillonError } from '../errors.js';
import type { Handler } from './endpoint.js';

const OPEN_PATHS: ReadonlySet<string> = new Set([
  '/healthz',
  '/readyz',
  '/v2/health/live',
  '/v2/health/ready',
]);
const BEARER = /^bearer +(\S+) *$/i;

function digest(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

function bearerOf(req: Request): string | null {
  return BEARER.exec(req.get('authorization') ?? '')?.[1] ?? null;
}

/** Compares with every secret, in a time that depends neither on which matches nor on how much of it. */
function matcher(secrets: readonly string[]): (req: Request) => boolean {
  const digests = secrets.map(digest);
  return (req) => {
    const token = bearerOf(req);
    if (token === null) return false;
    const given = digest(token);
    return digests.map((known) => timingSafeEqual(known, given)).some(Boolean);
  };
}

/** Without keys everyone may ask. Throws UNAUTHORIZED. */
export function requireApiKey(apiKeys: readonly string[], adminToken: string | null): RequestHandler {
  const matches = matcher(adminToken === null ? apiKeys : [...apiKeys, adminToken]);
  return (req, _res, next) => {
    if (apiKeys.length > 0 && !OPEN_PATHS.has(req.path) && !matches(req)) {
      throw new PapillonError('UNAUTHORIZED', 'Send a valid API key as Authorization: Bearer <key>');
    }
    next();
  };
}

/** Wraps handlers that change something. They throw FORBIDDEN without an admin token, UNAUTHORIZED for another. */
export function adminGuard(adminToken: string | null): (handler: Handler) => Handler {
  const matches = matcher(adminToken === null ? [] : [adminToken]);
  return (handler) => (req, res) => {
    if (adminToken === null) {
      throw new PapillonError(
        'FORBIDDEN',
        'Changes over HTTP are off: start the server with an admin token (--admin-token) to turn them on',
      );
    }
    if (!matches(req)) {
      throw new PapillonError('UNAUTHORIZED', 'Send the admin token as Authorization: Bearer <token>');
    }
    return handler(req, res);
  };
}
