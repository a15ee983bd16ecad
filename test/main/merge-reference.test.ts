/**
 * Every reference case whose base can be merged into: the written models, in plain ONNX Runtime, against what PEFT
 * computed. Strengths where a case has them.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import { mergeAdapter } from '#dist/main/merge.js';
import { ROOT } from '../e2e/server.js';
import { readNpy } from '../golden/npy.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { runOnnx, worstError } from './run-onnx.js';
import type { Ran } from './run-onnx.js';

type Files = Readonly<Record<string, string>>;
type Sets = Readonly<Record<string, Files>>;

interface CaseFile {
  readonly base: string;
  readonly tolerance: { readonly atol: number; readonly rtol: number };
  readonly inputs: Sets;
  readonly adapters: readonly {
    readonly name: string;
    readonly expect: string;
    readonly expected?: Readonly<Record<string, Sets>>;
  }[];
  readonly strengths?: readonly {
    readonly adapter: string;
    readonly expect: string;
    readonly alphas: readonly { readonly alpha: number; readonly expected: Sets }[];
  }[];
}

interface Wanted {
  readonly adapter: string;
  /** Refusing is no failure, being wrong is. */
  readonly isOptional: boolean;
  readonly strength: number;
  readonly outputs: Sets;
}

const CASES = join(ROOT, 'test/golden');
/** Bases whose weights are integers, or packed so that no module has one of its own. */
const NOT_MERGED = /^bert_(?:int|packed)/;

function wantedOf(spec: CaseFile): Wanted[] {
  const plain = spec.adapters.flatMap(({ name, expect, expected }): Wanted[] => {
    const outputs = expected?.unmerged_f64;
    const isOptional = expect === 'optional';
    if (!outputs || (expect !== 'ok' && !isOptional)) return [];
    return [{ adapter: name, isOptional, strength: 1, outputs }];
  });
  const others = (spec.strengths ?? [])
    .filter(({ expect }) => expect === 'ok')
    .flatMap(({ adapter, alphas }) =>
      alphas.map(({ alpha, expected }) => ({
        adapter,
        isOptional: false,
        strength: alpha,
        outputs: expected,
      })),
    );
  return [...plain, ...others];
}

function errorOf(root: string, got: ReadonlyMap<string, Ran> | undefined, want: Files, rtol: number): number {
  const errors = Object.entries(want).map(([name, file]) =>
    worstError(got?.get(name)?.data ?? [], readNpy(join(root, file)).data, rtol),
  );
  return Math.max(...errors);
}

const names = readdirSync(CASES)
  .filter((name) => existsSync(join(CASES, name, 'cases.json')) && !NOT_MERGED.test(name))
  .sort();

describe('merged models of the reference cases', () => {
  for (const name of names) {
    test(name, async () => {
      const root = join(CASES, name);
      const spec = JSON.parse(readFileSync(join(root, 'cases.json'), 'utf8')) as CaseFile;
      const { atol, rtol } = spec.tolerance;
      const sets = Object.keys(spec.inputs);
      const feeds = Object.values(spec.inputs).map((files) =>
        Object.fromEntries(Object.entries(files).map(([input, file]) => [input, readNpy(join(root, file))])),
      );
      let merged = 0;
      for (const { adapter, isOptional, strength, outputs } of wantedOf(spec)) {
        const output = temporaryFolder();
        try {
          mergeAdapter({
            model: join(root, spec.base),
            adapter: join(root, 'adapters', adapter),
            output,
            strength,
          });
        } catch (error) {
          if (isOptional && error instanceof PapillonError) continue;
          throw error;
        }
        merged++;
        const results = await runOnnx(join(output, 'model.onnx'), feeds);
        rmSync(output, { recursive: true });
        for (const [i, set] of sets.entries()) {
          const want = outputs[set];
          if (!want) continue;
          const error = errorOf(root, results[i], want, rtol);
          assert.ok(error <= atol, `${adapter} at ${strength}, ${set}: off by ${error}`);
        }
      }
      assert.ok(merged > 0);
    });
  }
});
