/** Owns the statistics extension of the Open Inference Protocol. */
import { Router } from 'express';
import { encodeStatistics } from '../../protocols/open-inference/index.js';
import type { AppDependencies } from '../dependencies.js';
import { endpoint, pathParameter } from '../endpoint.js';
import { findModel, requireVersion } from '../model-target.js';
import { sendJson } from '../send.js';

export function statisticsRouter({ engine }: Pick<AppDependencies, 'engine'>): Router {
  const router = Router();
  endpoint(router, '/v2/models/stats', {
    GET: (_req, res) => {
      sendJson(res, encodeStatistics(engine.statistics()));
    },
  });
  endpoint(router, '/v2/models/:model/stats', {
    GET: (req, res) => {
      const { name } = findModel(engine, pathParameter(req, 'model'));
      sendJson(res, encodeStatistics(engine.statistics(name)));
    },
  });
  endpoint(router, '/v2/models/:model/versions/:version/stats', {
    GET: (req, res) => {
      const target = findModel(engine, pathParameter(req, 'model'));
      requireVersion(target, pathParameter(req, 'version'));
      sendJson(res, encodeStatistics(engine.statistics(target.name)));
    },
  });
  return router;
}
