/**
 * Finds the base's module for each module that a PEFT checkpoint names. A graph may lack a prefix that PEFT's names
 * carry (an exported submodule) or carry one more (an exported wrapper), the same for all names.
 */
import { PapillonError } from '../errors.js';
import { nearestNames } from './nearest-names.js';

/** How names are carried over: drop `cut` from the front, then put `add` there. One of them is empty. */
interface Shift {
  readonly cut: string;
  readonly add: string;
}

/**
 * Maps PEFT names to base names, by these rules:
 * 1. What the explicit map holds is taken from there.
 * 2. All others exactly, where the base has them all.
 * 3. Else by adding one prefix to all (the whole name is a suffix of the base's); two prefixes that fit are ambiguous.
 * 4. Else by dropping one prefix from all: the shortest that fits, so that the common suffix is longest.
 *
 * @param peftNames module names as the checkpoint has them.
 * @param baseNames `BaseModule.name`s.
 * @param explicit PEFT name → base name, from the model folder.
 * @throws PapillonError ADAPTER_MODULE_UNKNOWN with the nearest names, ADAPTER_MODULE_AMBIGUOUS with the candidates
 */
export function matchModules(
  peftNames: readonly string[],
  baseNames: readonly string[],
  explicit: ReadonlyMap<string, string> = new Map(),
): ReadonlyMap<string, string> {
  const known = new Set(baseNames);
  const matched = new Map<string, string>();
  const open = peftNames.filter((name) => {
    const target = explicit.get(name);
    if (target === undefined) return true;
    if (!known.has(target)) throw unknownModule(name, baseNames, `the module map sends it to "${target}"`);
    matched.set(name, target);
    return false;
  });
  if (open.length === 0) return matched;
  const shift = findShift(open, baseNames, known);
  const origins = new Map([...matched].map(([name, target]) => [target, name]));
  for (const name of open) {
    const target = apply(shift, name) ?? name;
    const other = origins.get(target);
    if (other !== undefined) {
      throw new PapillonError(
        'ADAPTER_MODULE_AMBIGUOUS',
        `The adapter's modules "${other}" and "${name}" are both the base's "${target}".`,
      );
    }
    origins.set(target, name);
    matched.set(name, target);
  }
  return matched;
}

function findShift(
  names: readonly string[],
  baseNames: readonly string[],
  known: ReadonlySet<string>,
): Shift {
  const exact: Shift = { cut: '', add: '' };
  const fits = (shift: Shift) => names.every((name) => known.has(apply(shift, name) ?? ''));
  if (fits(exact)) return exact;
  // Every prefix that fits all names fits the first.
  const [first = ''] = names;
  const longer = baseNames
    .filter((name) => name.endsWith(`.${first}`))
    .map((name): Shift => ({ cut: '', add: name.slice(0, -first.length) }))
    .filter(fits);
  if (longer.length > 1) {
    const candidates = longer.map(({ add }) => `"${add}${first}"`).join(', ');
    throw new PapillonError(
      'ADAPTER_MODULE_AMBIGUOUS',
      `The adapter's module "${first}" could be any of the base's ${candidates}. ` +
        'Say which in the model folder’s module map.',
    );
  }
  const [only] = longer;
  if (only !== undefined) return only;
  for (let dot = first.indexOf('.'); dot !== -1; dot = first.indexOf('.', dot + 1)) {
    const shorter: Shift = { cut: first.slice(0, dot + 1), add: '' };
    if (fits(shorter)) return shorter;
  }
  throw misfit(names, baseNames, known);
}

/** Names the module that keeps the best candidate from fitting. */
function misfit(
  names: readonly string[],
  baseNames: readonly string[],
  known: ReadonlySet<string>,
): PapillonError {
  let bestCount = names.filter((name) => known.has(name)).length;
  let best: Shift = { cut: '', add: '' };
  for (const name of names) {
    for (const shift of shiftsOf(name, baseNames)) {
      const count = names.filter((other) => known.has(apply(shift, other) ?? '')).length;
      if (count > bestCount) [bestCount, best] = [count, shift];
    }
    // A few names decide it; going through all would be quadratic in the size of the checkpoint.
    if (bestCount > 0) break;
  }
  const missing = names.find((name) => !known.has(apply(best, name) ?? '')) ?? names[0] ?? '';
  return unknownModule(missing, baseNames, 'the base has no such module');
}

function shiftsOf(name: string, baseNames: readonly string[]): Shift[] {
  return baseNames.flatMap((base): Shift[] => {
    if (base.endsWith(`.${name}`)) return [{ cut: '', add: base.slice(0, -name.length) }];
    if (name.endsWith(`.${base}`)) return [{ cut: name.slice(0, -base.length), add: '' }];
    return [];
  });
}

function apply({ cut, add }: Shift, name: string): string | null {
  return name.startsWith(cut) ? add + name.slice(cut.length) : null;
}

function unknownModule(name: string, baseNames: readonly string[], why: string): PapillonError {
  const near = nearestNames(name, baseNames);
  const hint =
    near.length > 0 ? `Nearest: ${near.map((n) => `"${n}"`).join(', ')}.` : 'No module has a name like it.';
  return new PapillonError('ADAPTER_MODULE_UNKNOWN', `The adapter changes "${name}" but ${why}. ${hint}`);
}
