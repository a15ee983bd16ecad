/** Owns how names from a request are shown in messages. Pure. */

const LONGEST = 80;

/** The text in quotes, control characters escaped, cut to a readable length. */
export function quote(text: string): string {
  return JSON.stringify(text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);
}

export function showShape(shape: readonly (number | string)[]): string {
  return `[${shape.join(', ')}]`;
}
