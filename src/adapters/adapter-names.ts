/** Which names an adapter may have, and what is said about a name that nobody has. */
import { PapillonError } from '../errors.js';
import { nearestNames } from './nearest-names.js';

const MAX_NAME_CHARACTERS = 200;
/** Commas separate names in headers; control characters end up in logs and headers. */
const FORBIDDEN = /[,/\\\p{Cc}\p{Cs}]/u;
/** What requests write between and behind names, see selection.ts. */
const COMPOSING = /[+*]/;

/** Why a name cannot be an adapter's, or null. */
export function nameProblem(name: string, baseId: string): PapillonError | null {
  const why =
    name.length === 0 || name.length > MAX_NAME_CHARACTERS
      ? `must have 1 to ${MAX_NAME_CHARACTERS} characters`
      : FORBIDDEN.test(name)
        ? 'must not contain commas, slashes or control characters'
        : COMPOSING.test(name)
          ? 'must not contain "+" or "*", which compose adapters in requests; rename its folder'
          : name === '.' || name === '..'
            ? 'must be more than dots'
            : name === baseId
              ? 'must differ from the base model’s name'
              : null;
  if (why === null) return null;
  return new PapillonError('ADAPTER_NAME_INVALID', `The adapter name ${quote(name)} ${why}.`);
}

/** UNKNOWN_MODEL, with the nearest known names. */
export function unknownAdapter(id: string, known: Iterable<string>): PapillonError {
  const near = id.length > MAX_NAME_CHARACTERS ? [] : nearestNames(id, known, { maxDistance: 3 });
  const hint = near.length === 0 ? '' : ` Did you mean ${near.map(quote).join(' or ')}?`;
  return new PapillonError('UNKNOWN_MODEL', `No adapter is called ${quote(id)}.${hint}`);
}

/** Cut to the length that a name may have. */
export function quote(name: string): string {
  return JSON.stringify(name.length > MAX_NAME_CHARACTERS ? `${name.slice(0, MAX_NAME_CHARACTERS)}…` : name);
}
