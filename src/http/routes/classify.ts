/** Owns `POST /v1/classify`: texts in, labels and scores out. */
import { Router } from 'express';
import { PapillonError } from '../../errors.js';
import { decodeClassifyRequest, encodeClassifyResponse } from '../../protocols/openai/index.js';
import { chooseAdapter } from '../adapter-choice.js';
import { deadlineOf } from '../deadline.js';
import type { RouteContext } from '../dependencies.js';
import { endpoint } from '../endpoint.js';
import { sendJson, setServedHeaders } from '../send.js';
import { traceOf } from '../trace.js';

export function classifyRouter({ engine, classify, bodies }: RouteContext): Router {
  const router = Router();
  endpoint(router, '/v1/classify', {
    POST: async (req, res) => {
      if (classify.task === null) throw new PapillonError('UNSUPPORTED', classify.reason);
      const trace = traceOf(res);
      const body = await bodies.json(req, res);
      const { inputs, model, adapterId: parameter, strength, topK } = decodeClassifyRequest(body);
      const choice = chooseAdapter(engine, {
        name: model,
        parameter,
        header: req.get('x-adapter-id'),
        strength,
        strengthHeader: req.get('x-adapter-strength'),
      });
      const { adapterId, id } = choice;
      trace.adapterId = adapterId === null ? null : id;
      const deadlineMs = deadlineOf(req, trace.startedAt);
      const answer = await classify.task.classify({
        adapterId,
        inputs,
        signal: trace.signal,
        ...(choice.strength === undefined ? {} : { strength: choice.strength }),
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
      });
      setServedHeaders(res, { ...answer, id });
      sendJson(res, encodeClassifyResponse(id, answer.results, topK));
    },
  });
  return router;
}
