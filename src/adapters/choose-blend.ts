/** Which adapters a request means, and how strongly. */
import { PapillonError } from '../errors.js';
import { quote, unknownAdapter } from './adapter-names.js';
import type { AdapterRecord } from './adapter-record.js';
import { Blend } from './blend.js';
import { parseSelection, roundStrength, type SelectedPart } from './selection.js';

export interface Catalogued {
  readonly records: ReadonlyMap<string, AdapterRecord>;
  readonly baseId: string;
}

/**
 * Unloaded adapters are found, too.
 *
 * @param strength of all parts; else each part's own, else its adapter's.
 * @throws PapillonError UNKNOWN_MODEL naming the part, INVALID_REQUEST, VALUE_OUT_OF_RANGE
 */
export function chooseBlend(selection: string, strength: number | undefined, catalogued: Catalogued): Blend {
  const { records, baseId } = catalogued;
  const asked = strength === undefined ? null : roundStrength(strength);
  // A folder whose name composes others is refused by itself, rather than taken for them.
  const parts: readonly SelectedPart[] = records.has(selection)
    ? [{ id: selection, strength: null }]
    : parseSelection(selection);
  return new Blend(
    parts.map(({ id, strength: own }) => {
      if (id === baseId) {
        throw new PapillonError(
          'INVALID_REQUEST',
          `${quote(id)} is the base: it has no strength and is no part of a composition.`,
        );
      }
      if (asked !== null && own !== null) {
        throw new PapillonError(
          'INVALID_REQUEST',
          `${quote(selection)} tells a strength in the name: give no other one beside it.`,
        );
      }
      const record = records.get(id);
      if (record === undefined) throw unknownAdapter(id, servedIds(records));
      return { record, strength: asked ?? own ?? record.strength };
    }),
  );
}

/** @throws PapillonError UNKNOWN_MODEL naming a part that was taken out of service */
export function requireInService(blend: Blend, { records }: Catalogued): void {
  const gone = blend.parts.find(({ record }) => record.unloaded);
  if (gone !== undefined) throw unknownAdapter(gone.record.id, servedIds(records));
}

/** What a request may name. */
export function* servedIds(records: ReadonlyMap<string, AdapterRecord>): Generator<string> {
  for (const { id, unloaded } of records.values()) if (!unloaded) yield id;
}
