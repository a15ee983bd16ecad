/** Owns the Open Inference Protocol's metadata and inference routes. */
import { Router } from 'express';
import type { Request, Response } from 'express';
import {
  chooseOutputs,
  decodeInputs,
  DEFAULT_LIMITS,
  encodeInferAnswer,
  encodeModelMetadata,
  encodeServerMetadata,
  isServable,
  openInferRequest,
} from '../../protocols/open-inference/index.js';
import { chooseAdapter } from '../adapter-choice.js';
import { jsonLengthOf } from '../body.js';
import { deadlineOf } from '../deadline.js';
import type { RouteContext } from '../dependencies.js';
import { endpoint, pathParameter } from '../endpoint.js';
import type { Handler, Method } from '../endpoint.js';
import {
  findModel,
  isVersion,
  requireServedVersion,
  requireVersion,
  unknownVersion,
} from '../model-target.js';
import { sendJson, sendParts, setServedHeaders } from '../send.js';
import { traceOf } from '../trace.js';
import { whyNotReady } from './operations.js';

const JSON_LENGTH_HEADER = 'Inference-Header-Content-Length';

/** The version in the path, null where it names none. */
function versionOf(req: Request): string | null {
  return 'version' in req.params ? pathParameter(req, 'version') : null;
}

async function infer(deps: RouteContext, req: Request, res: Response): Promise<void> {
  const { engine } = deps;
  const limits = deps.limits ?? DEFAULT_LIMITS;
  const trace = traceOf(res);
  const jsonBytes = jsonLengthOf(req);
  const body = await deps.bodies.bytes(req, res);
  const envelope = openInferRequest(body, jsonBytes, limits);
  const choice = chooseAdapter(engine, {
    name: pathParameter(req, 'model'),
    parameter: envelope.adapterId,
    header: req.get('x-adapter-id'),
    strength: envelope.strength,
    strengthHeader: req.get('x-adapter-strength'),
  });
  const { adapterId, strength, id } = choice;
  trace.adapterId = adapterId === null ? null : id;
  const version = versionOf(req);
  const deadlineMs = deadlineOf(req, trace.startedAt, envelope.timeoutMs);
  const outputs = chooseOutputs(envelope, engine.model);
  const inputs = decodeInputs(envelope, engine.model, body.byteLength, limits);
  if (version !== null) await requireServedVersion(engine, choice, version);

  const result = await engine.infer({
    adapterId,
    ...(strength === undefined ? {} : { strength }),
    inputs,
    signal: trace.signal,
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
  });
  const servedVersion = adapterId === null ? engine.model.digest : result.version;
  // Between the check above and admission the adapter may have been replaced.
  if (version !== null && !isVersion(servedVersion, version)) throw unknownVersion(id, version);
  setServedHeaders(res, { ...result, id });
  const answer = encodeInferAnswer(
    { modelName: id, modelVersion: servedVersion, id: envelope.id, outputs: result.outputs },
    outputs,
  );
  if (answer.jsonBytes !== null) res.setHeader(JSON_LENGTH_HEADER, answer.jsonBytes);
  await sendParts(res, answer);
}

function describe({ engine }: RouteContext, req: Request, res: Response): void {
  const target = findModel(engine, pathParameter(req, 'model'));
  const version = versionOf(req);
  if (version !== null) requireVersion(target, version);
  sendJson(res, encodeModelMetadata(engine.model, target));
}

function tellReady(deps: RouteContext, req: Request, res: Response): void {
  const target = findModel(deps.engine, pathParameter(req, 'model'));
  const version = versionOf(req);
  if (version !== null) requireVersion(target, version);
  const isOffered = target.state === null || isServable({ state: target.state });
  const ready = isOffered && whyNotReady(deps) === null;
  sendJson(res, { name: target.name, ready }, ready ? 200 : 503);
}

export function openInferenceRouter(deps: RouteContext): Router {
  const router = Router();
  endpoint(router, '/v2', {
    GET: (_req, res) => {
      sendJson(res, encodeServerMetadata(deps.server));
    },
  });
  const forModel = (
    suffix: string,
    method: Method,
    handle: (...args: Parameters<typeof infer>) => ReturnType<Handler>,
  ): void => {
    for (const path of [`/v2/models/:model${suffix}`, `/v2/models/:model/versions/:version${suffix}`]) {
      endpoint(router, path, { [method]: (req: Request, res: Response) => handle(deps, req, res) });
    }
  };
  forModel('', 'GET', describe);
  forModel('/ready', 'GET', tellReady);
  forModel('/infer', 'POST', infer);
  return router;
}
