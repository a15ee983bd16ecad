/** Owns the registration of routes: one path, its methods, 405 for the others, its pattern for log and metrics. */
import type { Request, Response, Router } from 'express';
import { PapillonError } from '../errors.js';
import { traceOf } from './trace.js';

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
/** Rejections become the answer. */
export type Handler = (req: Request, res: Response) => void | Promise<void>;

/** `path` is the whole pattern. Handlers run in the order given. */
export function endpoint(
  router: Router,
  path: string,
  methods: Readonly<Partial<Record<Method, Handler>>>,
): void {
  const names = Object.keys(methods);
  const allow = [...names, ...(names.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ');
  router.all(path, async (req, res) => {
    traceOf(res).route = path;
    const name = req.method === 'HEAD' ? 'GET' : req.method;
    const handler = Object.hasOwn(methods, name) ? methods[name as Method] : undefined;
    if (handler !== undefined) {
      await handler(req, res);
      return;
    }
    res.setHeader('Allow', allow);
    if (req.method !== 'OPTIONS') {
      throw new PapillonError('METHOD_NOT_ALLOWED', `${req.method} is not offered here; use ${allow}`);
    }
    res.statusCode = 204;
    res.end();
  });
}

/** A named part of the path. */
export function pathParameter(req: Request, name: string): string {
  const value = req.params[name];
  if (typeof value !== 'string') throw new Error(`The route has no parameter ${name}`);
  return value;
}
