/**
 * Owns the shape of `GET /v1/models`: the base and every adapter that can be asked for, as OpenAI clients
 * expect a model list. Pure.
 */
import type { AdapterInfo, ModelDescription } from '../../types.js';

const OWNER = 'papillon';

export interface ModelEntry {
  readonly id: string;
  readonly object: 'model';
  /** Seconds since 1970. */
  readonly created: number;
  readonly owned_by: string;
  /** The base at the root of the chain. */
  readonly root: string;
  /** What the entry was derived from: null for the base, the base's id for an adapter. */
  readonly parent: string | null;
  readonly max_model_len?: number;
}

export interface ModelList {
  readonly object: 'list';
  readonly data: readonly ModelEntry[];
}

/**
 * The base first, then the adapters in the order given. Adapters that no request can use (`failed`,
 * `unloaded`) are left out: `GET /v1/adapters` tells of them, with the reason.
 * `createdSeconds` is when the base was put into service; `maxModelLength` its longest input in tokens.
 */
export function encodeModelList(
  model: ModelDescription,
  adapters: readonly AdapterInfo[],
  createdSeconds: number,
  maxModelLength?: number,
): ModelList {
  const entry = (id: string, created: number, parent: string | null): ModelEntry => ({
    id,
    object: 'model',
    created: Math.floor(created),
    owned_by: OWNER,
    root: model.id,
    parent,
    ...(maxModelLength === undefined ? {} : { max_model_len: maxModelLength }),
  });
  const usable = adapters.filter((adapter) => adapter.state !== 'failed' && adapter.state !== 'unloaded');
  return {
    object: 'list',
    data: [
      entry(model.id, createdSeconds, null),
      ...usable.map((adapter) => entry(adapter.id, adapter.addedAt / 1000, model.id)),
    ],
  };
}
