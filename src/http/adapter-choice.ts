/**
 * Owns which adapter a request means, and how strongly: what path or body, parameters and headers agree on.
 */
import { PapillonError } from '../errors.js';
import { quote } from '../protocols/open-inference/index.js';
import type { ServingEngine } from '../types.js';

export interface AdapterMentions {
  /** Model name in the path or the body. */
  readonly name?: string | null | undefined;
  /** `parameters.adapter_id` */
  readonly parameter?: string | null | undefined;
  /** X-Adapter-Id as it came: repeated headers are joined by commas, which no adapter's name holds. */
  readonly header?: string | undefined;
  /** `parameters.strength`, or the body's `strength`. */
  readonly strength?: number | null | undefined;
  /** X-Adapter-Strength as it came. */
  readonly strengthHeader?: string | undefined;
}

export interface AdapterChoice {
  /** For `InferenceRequest`, null for the base. */
  readonly adapterId: string | null;
  readonly strength?: number;
  /** What answers, logs and figures call it: names without strengths, the base's for the base. */
  readonly id: string;
  /** Served to new requests now; null where it is not known yet. */
  readonly version: string | null;
}

const NUMBER = /^[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:e[+-]?\d{1,2})?$/i;

/**
 * The base's own name asks for nothing more, so another mention may. Throws CONFLICTING_ADAPTERS where two mentions
 * disagree, UNKNOWN_MODEL where the server has no such adapter, INVALID_REQUEST, VALUE_OUT_OF_RANGE (see
 * `AdapterSource.lease`).
 */
export function chooseAdapter(engine: ServingEngine, mentions: AdapterMentions): AdapterChoice {
  const named = [mentions.name, mentions.parameter, ...headerMentions(mentions.header)].filter(
    (mention): mention is string => typeof mention === 'string' && mention !== engine.model.id,
  );
  const adapterId = onlyOne(named, (a, b) => `two adapters, ${quote(a)} and ${quote(b)}`);
  const strengths = [mentions.strength ?? [], strengthMentions(mentions.strengthHeader)].flat();
  const strength = onlyOne(strengths, (a, b) => `two strengths, ${a} and ${b}`);
  const { model, adapters } = engine;
  if (adapterId === undefined) {
    if (strength === undefined) return { adapterId: null, id: model.id, version: model.digest };
    throw new PapillonError('INVALID_REQUEST', 'The request gives a strength, but no adapter that it is for');
  }
  const wish = strength === undefined ? {} : { strength };
  const { id, state, version } = adapters.resolve(adapterId, wish);
  if (state === 'unloaded') {
    throw new PapillonError('UNKNOWN_MODEL', `There is no model or adapter named ${quote(id)}`);
  }
  return { adapterId, ...wish, id, version };
}

function onlyOne<T>(mentions: readonly T[], describe: (first: T, other: T) => string): T | undefined {
  const [first, ...others] = mentions;
  const other = others.find((mention) => mention !== first);
  if (first === undefined || other === undefined) return first;
  throw new PapillonError('CONFLICTING_ADAPTERS', `The request names ${describe(first, other)}; name one`);
}

/** Node reads headers as Latin-1, clients that send more than ASCII send UTF-8. */
function headerMentions(header: string | undefined): readonly string[] {
  return listOf(Buffer.from(header ?? '', 'latin1').toString('utf8'));
}

function strengthMentions(header: string | undefined): readonly number[] {
  return listOf(header ?? '').map((mention) => {
    if (NUMBER.test(mention)) return Number(mention);
    throw new PapillonError(
      'INVALID_REQUEST',
      `X-Adapter-Strength must be a number, found ${quote(mention)}`,
    );
  });
}

function listOf(header: string): readonly string[] {
  return header
    .split(',')
    .map((mention) => mention.trim())
    .filter((mention) => mention !== '');
}
