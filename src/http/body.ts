/** Owns the reading of request bodies: content type, size, one parse. */
import express from 'express';
import type { Request, RequestHandler, Response } from 'express';
import { PapillonError } from '../errors.js';
import { field, isJsonObject, parseJson } from '../protocols/open-inference/index.js';
import type { JsonObject, JsonValue } from '../protocols/open-inference/index.js';

const JSON_TYPE = /^application\/(?:[\w.+-]+\+)?json$/;
const BINARY_TYPE = 'application/octet-stream';
const DIGITS = /^\d{1,15}$/;

function mediaTypeOf(req: Request): string | null {
  return req.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase() ?? null;
}

/** A body without a type is taken for JSON. Throws UNSUPPORTED_MEDIA_TYPE. */
function requireType(req: Request, isBinaryAccepted: boolean): void {
  const type = mediaTypeOf(req);
  if (type === null || JSON_TYPE.test(type) || (isBinaryAccepted && type === BINARY_TYPE)) return;
  const accepted = isBinaryAccepted ? `application/json or ${BINARY_TYPE}` : 'application/json';
  throw new PapillonError(
    'UNSUPPORTED_MEDIA_TYPE',
    `Content-Type ${JSON.stringify(type.slice(0, 80))} is not accepted: send ${accepted}`,
  );
}

/** Reads bodies into one Buffer each, decompressed, only once a handler asks: refused requests are not read. */
export class BodyReader {
  readonly #read: RequestHandler;

  constructor(limitBytes: number) {
    this.#read = express.raw({ type: () => true, limit: limitBytes });
  }

  /** Empty where there is none. Rejects with express' own errors, which become BODY_TOO_LARGE and the like. */
  bytes(req: Request, res: Response): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#read(req, res, (error: unknown) => {
        if (error !== undefined) {
          reject(error instanceof Error ? error : new Error('The body could not be read'));
          return;
        }
        const body: unknown = req.body;
        resolve(Buffer.isBuffer(body) ? body : Buffer.alloc(0));
      });
    });
  }

  /** Parsed. Rejects with UNSUPPORTED_MEDIA_TYPE, INVALID_JSON. */
  async json(req: Request, res: Response): Promise<JsonValue> {
    requireType(req, false);
    const bytes = await this.bytes(req, res);
    if (bytes.byteLength === 0) throw new PapillonError('INVALID_JSON', 'The body is empty: send JSON');
    return parseJson(bytes);
  }

  /** Parsed, `{}` where there is no body. Rejects also with INVALID_REQUEST for other than an object. */
  async optionalObject(req: Request, res: Response): Promise<JsonObject> {
    const bytes = await this.bytes(req, res);
    if (bytes.byteLength === 0) return {};
    requireType(req, false);
    const value = parseJson(bytes);
    if (!isJsonObject(value)) throw new PapillonError('INVALID_REQUEST', 'The body must be a JSON object');
    return value;
  }
}

/** A non-empty string, or undefined where absent or null. Throws INVALID_REQUEST. */
export function textField(body: JsonObject, key: string): string | undefined {
  const value = field(body, key) ?? undefined;
  if (value !== undefined && (typeof value !== 'string' || value === '')) {
    throw new PapillonError('INVALID_REQUEST', `${key} must be a non-empty string`);
  }
  return value;
}

/** Throws INVALID_REQUEST naming a field that is not one of `known`. */
export function refuseOtherFields(body: JsonObject, known: readonly string[]): void {
  const other = Object.keys(body).find((key) => !known.includes(key));
  if (other === undefined) return;
  throw new PapillonError(
    'INVALID_REQUEST',
    `${JSON.stringify(other.slice(0, 80))} is not known here; the fields are: ${known.join(', ')}`,
  );
}

/** Inference-Header-Content-Length, null without it. Throws UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST. */
export function jsonLengthOf(req: Request): number | null {
  requireType(req, true);
  const length = req.get('inference-header-content-length');
  if (length === undefined) return null;
  if (!DIGITS.test(length)) {
    throw new PapillonError('INVALID_REQUEST', 'Inference-Header-Content-Length must be a number of bytes');
  }
  return Number(length);
}
