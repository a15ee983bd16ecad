/** What a request may name: an adapter, one at a strength of its own (`a*0.5`), or several composed (`a+b*0.5`). */
import { PapillonError } from '../errors.js';
import { quote } from './adapter-names.js';

/** Each part is loaded for each composition that it is in. */
export const MAX_PARTS = 8;
/** Beyond, the Cayley transform turns no further to speak of, and scales change their sign. */
export const MAX_STRENGTH = 10;
/** Strengths that differ by less are one version, so that versions stay few. */
const STEPS_PER_UNIT = 1000;

const NUMBER = /^-?\d{1,6}(?:\.\d{1,12})?$/;

export interface SelectedPart {
  readonly id: string;
  /** null: none was named. */
  readonly strength: number | null;
}

/**
 * In the order given, with strengths as `roundStrength` leaves them.
 *
 * @throws PapillonError INVALID_REQUEST for an empty name, another thing than a number behind `*`, too many parts;
 * VALUE_OUT_OF_RANGE
 */
export function parseSelection(selection: string): readonly [SelectedPart, ...SelectedPart[]] {
  const [first, ...others] = selection.split('+', MAX_PARTS + 1);
  if (others.length >= MAX_PARTS) {
    throw new PapillonError('INVALID_REQUEST', `At most ${MAX_PARTS} adapters are composed in one request.`);
  }
  const parse = (part: string): SelectedPart => parsePart(part, selection);
  return [parse(first ?? ''), ...others.map(parse)];
}

/**
 * α to three decimals.
 *
 * @throws PapillonError VALUE_OUT_OF_RANGE beyond ±MAX_STRENGTH
 */
export function roundStrength(strength: number): number {
  if (!(Math.abs(strength) <= MAX_STRENGTH)) {
    throw new PapillonError(
      'VALUE_OUT_OF_RANGE',
      `The strength ${strength} is out of range: give a number from -${MAX_STRENGTH} to ${MAX_STRENGTH}.`,
    );
  }
  // Adding zero leaves no −0, which would be another key.
  return Math.round(strength * STEPS_PER_UNIT) / STEPS_PER_UNIT + 0;
}

/** How a version shows its strength: nothing for the checkpoint's own. */
export function strengthSuffix(strength: number): string {
  return strength === 1 ? '' : `*${strength}`;
}

function parsePart(part: string, selection: string): SelectedPart {
  const star = part.indexOf('*');
  const id = star === -1 ? part : part.slice(0, star);
  if (id === '') {
    throw new PapillonError(
      'INVALID_REQUEST',
      `The adapter name ${quote(selection)} has an empty part: adapters are composed as "a+b".`,
    );
  }
  if (star === -1) return { id, strength: null };
  const text = part.slice(star + 1);
  if (!NUMBER.test(text)) {
    throw new PapillonError(
      'INVALID_REQUEST',
      `Behind ${quote(`${id}*`)} a strength is expected, a number such as 0.5; adapter names hold no "*".`,
    );
  }
  return { id, strength: roundStrength(Number(text)) };
}
