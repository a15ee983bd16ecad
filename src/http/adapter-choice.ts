/** Owns which adapter a request means: the one that path or body, parameters and header agree on. */
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
}

/**
 * The adapter's id, or null for the base: the base's own name asks for nothing more, so another mention may.
 * Throws CONFLICTING_ADAPTERS where two mentions disagree, UNKNOWN_MODEL where the server has no such adapter.
 */
export function chooseAdapter(engine: ServingEngine, mentions: AdapterMentions): string | null {
  const named = [mentions.name, mentions.parameter, ...headerMentions(mentions.header)].filter(
    (mention): mention is string => typeof mention === 'string' && mention !== engine.model.id,
  );
  const first = named.at(0);
  if (first === undefined) return null;
  const other = named.find((mention) => mention !== first);
  if (other !== undefined) {
    throw new PapillonError(
      'CONFLICTING_ADAPTERS',
      `The request names two adapters, ${quote(first)} and ${quote(other)}; name one`,
    );
  }
  requireAdapter(engine, first);
  return first;
}

/** Node reads headers as Latin-1, clients that send more than ASCII send UTF-8. */
function headerMentions(header: string | undefined): readonly string[] {
  const text = Buffer.from(header ?? '', 'latin1').toString('utf8');
  return text
    .split(',')
    .map((mention) => mention.trim())
    .filter((mention) => mention !== '');
}

/** Throws UNKNOWN_MODEL for an adapter that is not there or was unloaded. */
function requireAdapter(engine: ServingEngine, id: string): void {
  const info = engine.adapters.info(id);
  if (info !== undefined && info.state !== 'unloaded') return;
  throw new PapillonError('UNKNOWN_MODEL', `There is no model or adapter named ${quote(id)}`);
}
