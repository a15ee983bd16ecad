/** Owns what the demo's files say the server must answer: PEFT's float64 logits and the held-out texts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEMO_MODEL } from './server.js';

export interface Example {
  readonly text: string;
  readonly input_ids: readonly number[];
  /** Of `input_ids`, by PEFT in float64. */
  readonly logits: readonly number[];
}

export interface DemoSet {
  /** The adapter, or the base's name. */
  readonly model: string;
  /** Of `model` on the set's held-out texts, measured in PyTorch. */
  readonly accuracy: number;
  readonly logits: readonly Example[];
}

interface Expected {
  readonly labels: readonly string[];
  readonly sets: Readonly<Record<string, DemoSet>>;
}

const HELD_OUT = join(DEMO_MODEL, 'heldout');
const expected = JSON.parse(readFileSync(join(HELD_OUT, 'expected.json'), 'utf8')) as Expected;

export const BASE = 'demo-router';
export const LABELS = expected.labels;
/** By name: a tenant's, or `base`. */
export const SETS: ReadonlyMap<string, DemoSet> = new Map(Object.entries(expected.sets));

export function setOf(name: string): DemoSet {
  const set = SETS.get(name);
  if (set === undefined) throw new Error(`expected.json has no set ${name}`);
  return set;
}

/** The first example of a set, for tests that need any one. */
export function exampleOf(name: string): Example {
  const example = setOf(name).logits[0];
  if (example === undefined) throw new Error(`the set ${name} is empty`);
  return example;
}

export interface HeldOutText {
  readonly text: string;
  readonly label: string;
}

export function heldOut(set: string): HeldOutText[] {
  return readFileSync(join(HELD_OUT, `${set}.jsonl`), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as HeldOutText);
}

/** Label of the greatest logit. */
export function labelOf(logits: Iterable<number>): string {
  const values = [...logits];
  return LABELS[values.indexOf(Math.max(...values))] ?? '';
}

/** |got − want| ≤ 1e-4 + 1e-4·|want| for every logit. */
export function isClose(got: ArrayLike<number>, want: readonly number[]): boolean {
  return (
    got.length === want.length &&
    want.every((value, i) => Math.abs((got[i] ?? Number.NaN) - value) <= 1e-4 + 1e-4 * Math.abs(value))
  );
}
