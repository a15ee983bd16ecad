/** Suggests names that a mistyped one may have meant. */

/**
 * The `count` names of smallest edit distance to `wanted`, nearest first; only those within a third of its length
 * (at least 2, at most `maxDistance`).
 */
export function nearestNames(
  wanted: string,
  names: Iterable<string>,
  { count = 3, maxDistance = 24 }: { count?: number; maxDistance?: number } = {},
): string[] {
  const limit = Math.min(maxDistance, Math.max(2, Math.floor(wanted.length / 3)));
  const found: { name: string; distance: number }[] = [];
  for (const name of names) {
    const distance = editDistance(wanted, name, limit);
    if (distance <= limit) found.push({ name, distance });
  }
  found.sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1));
  return found.slice(0, count).map(({ name }) => name);
}

/** Levenshtein distance, or something greater than `limit` as soon as it is known to be. Cost O(limit · length). */
function editDistance(first: string, second: string, limit: number): number {
  if (Math.abs(first.length - second.length) > limit) return limit + 1;
  // Names share long beginnings, which cost nothing this way.
  let same = 0;
  while (same < first.length && first[same] === second[same]) same++;
  const a = first.slice(same);
  const b = second.slice(same);
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const from = Math.max(1, i - limit);
    const to = Math.min(b.length, i + limit);
    const current = new Array<number>(b.length + 1).fill(limit + 1);
    current[0] = i;
    let best = from === 1 ? i : limit + 1;
    for (let j = from; j <= to; j++) {
      const substituted = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current[j] = Math.min(substituted, (previous[j] as number) + 1, (current[j - 1] as number) + 1);
      best = Math.min(best, current[j] as number);
    }
    if (best > limit) return limit + 1;
    previous = current;
  }
  return previous[b.length] as number;
}
