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
      const { inputs, model, adapterId: parameter, topK } = decodeClassifyRequest(body);
      const adapterId = chooseAdapter(engine, { name: model, parameter, header: req.get('x-adapter-id') });
      trace.adapterId = adapterId;
      const deadlineMs = deadlineOf(req, trace.startedAt);
      const answer = await classify.task.classify({
        adapterId,
        inputs,
        signal: trace.signal,
        ...(deadlineMs === undefined ? {} : { deadlineMs }),
      });
      const id = adapterId ?? engine.model.id;
      setServedHeaders(res, { ...answer, id });
      sendJson(res, encodeClassifyResponse(id, answer.results, topK));
    },
  });
  return router;
}
