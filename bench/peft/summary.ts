/** The two sides' times as rows of a table, and the ratios that goals are set for. */
import type { Cell } from '../support/report.js';
import { median, spread } from '../support/statistics.js';
import type { OwnTimes } from './own.js';

/** Milliseconds, one entry a repetition. */
export interface PeftTimes {
  readonly base: number[];
  readonly unmerged: number[];
  readonly merged: number[];
  readonly merge: number[];
  readonly unmerge: number[];
  /** `set_adapter`; many a repetition. */
  readonly activate: number[];
  /** What the stand-in for PEFT's CUDA extension takes of an unmerged forward. */
  readonly standIn: number[];
  /** `load_adapter` beyond the first. */
  readonly load: readonly number[];
}

export type Row = Readonly<Record<string, Cell>> & { readonly ratio: number };

export interface Summary {
  readonly rows: readonly Row[];
  /** What a switch takes here: a request of another adapter minus one of the same. */
  readonly switchMs: { readonly median: number; readonly mad: number };
  /** PEFT ÷ Papillon. */
  readonly forwardRatio: number;
  readonly switchRatio: number;
}

export function summarise(peft: PeftTimes, own: OwnTimes): Summary {
  const differences = own.switched.map((ms, i) => ms - (own.steady.at(i) ?? NaN));
  const difference = spread(differences);
  // A difference cannot be told finer than runs scatter; rounding it up is to PEFT's advantage.
  const switchMs = Math.max(difference.median, difference.mad);
  const switching = (what: string, times: readonly number[]): Row => ({
    ...row(what, times, differences),
    ratio: median(times) / switchMs,
  });
  const merging = sums(peft.unmerge, peft.merge);
  const activating = median(peft.activate);
  const activated = peft.unmerged.map((ms) => activating + ms);
  const forward = row('unmerged forward, adapter active before', peft.unmerged, own.steady);
  const switched = switching('switch: unmerge one, merge the other', merging);
  const rows = [
    row('base forward, adapters switched off', peft.base, own.base),
    forward,
    switched,
    switching('switch: set_adapter', peft.activate),
    row('switch and answer: unmerge, merge, forward', sums(merging, peft.merged), own.switched),
    row('switch and answer: set_adapter, forward', activated, own.switched),
    row('a further adapter from its files', peft.load, own.load),
  ];
  return { rows, switchMs: difference, forwardRatio: forward.ratio, switchRatio: switched.ratio };
}

function row(what: string, peft: readonly number[], own: readonly number[]): Row {
  const [theirs, ours] = [spread(peft), spread(own)];
  return {
    what,
    'PEFT ms': theirs.median,
    'PEFT min': theirs.min,
    'PEFT max': Math.max(...peft),
    'PEFT n': theirs.count,
    'Papillon ms': ours.median,
    '± MAD': ours.mad,
    n: ours.count,
    ratio: theirs.median / ours.median,
  };
}

function sums(first: readonly number[], second: readonly number[]): number[] {
  return first.map((value, i) => value + (second.at(i) ?? NaN));
}
