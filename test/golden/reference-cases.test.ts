/**
 * Every reference case, in every export, over HTTP: each adapter alone, and all of them at once in mixed batches,
 * against what PEFT computed. Compositions and strengths where a case has them.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { ROOT, startServer } from '../e2e/server.js';
import { readNpy } from './npy.js';

type Files = Readonly<Record<string, string>>;
type Sets = Readonly<Record<string, Files>>;

interface Expectation {
  /** What to ask for: an adapter's name, or several with + between. */
  readonly name: string;
  readonly strength?: number;
  readonly expect: 'ok' | 'error' | 'judge' | 'optional' | 'ambiguous';
  /** Forms that are right, each by input set. */
  readonly forms: readonly Sets[];
}

interface CaseFile {
  readonly base: string;
  readonly base_variants?: Readonly<Record<string, string>>;
  readonly tolerance: { readonly atol: number; readonly rtol: number };
  readonly inputs: Sets;
  readonly adapters: readonly {
    readonly name: string;
    readonly expect: Expectation['expect'];
    readonly expected?: Readonly<Record<string, Sets>>;
  }[];
  readonly compositions?: readonly {
    readonly parts: readonly string[];
    readonly expect: Expectation['expect'];
    readonly expected?: Readonly<Record<string, Sets>>;
  }[];
  readonly strengths?: readonly {
    readonly adapter: string;
    readonly expect: Expectation['expect'];
    readonly alphas: readonly { readonly alpha: number; readonly expected: Sets }[];
  }[];
}

const CASES = join(ROOT, 'test/golden');
const cache = mkdtempSync(join(tmpdir(), 'papillon-golden-'));
after(() => {
  rmSync(cache, { recursive: true, force: true });
});

function formsOf(expect: Expectation['expect'], expected: Readonly<Record<string, Sets>> = {}): Sets[] {
  // `ok` means the unmerged forward in float64; elsewhere PEFT itself knows several answers.
  const unmerged = expected.unmerged_f64;
  return expect === 'ok' && unmerged ? [unmerged] : Object.values(expected);
}

function expectations(spec: CaseFile): Expectation[] {
  const plain = spec.adapters.map(({ name, expect, expected }) => ({ name, expect, forms: formsOf(expect, expected) }));
  const composed = (spec.compositions ?? []).map(({ parts, expect, expected }) => ({
    name: parts.join('+'),
    expect,
    forms: formsOf(expect, expected),
  }));
  const strengths = (spec.strengths ?? []).flatMap(({ adapter, expect, alphas }) =>
    alphas.map(({ alpha, expected }) => ({ name: adapter, strength: alpha, expect, forms: [expected] })),
  );
  return [...plain, ...composed, ...strengths];
}

interface InferBody {
  readonly error?: string;
  readonly outputs?: readonly { readonly name: string; readonly data: readonly number[] }[];
}

/** Largest |got − want| − rtol·|want| over all outputs of one form. */
function worstError(root: string, body: InferBody, want: Files, rtol: number): number {
  let worst = 0;
  for (const [name, file] of Object.entries(want)) {
    const expected = readNpy(join(root, file)).data;
    const got = body.outputs?.find((output) => output.name === name)?.data ?? [];
    if (got.length !== expected.length) return Infinity;
    for (const [i, value] of expected.entries()) {
      const error = Math.abs((got[i] ?? NaN) - value) - rtol * Math.abs(value);
      if (!(error <= worst)) worst = Number.isNaN(error) ? Infinity : error;
    }
  }
  return worst;
}

async function check(
  url: string,
  root: string,
  spec: CaseFile,
  { name, strength, expect, forms }: Expectation,
  set: string,
): Promise<void> {
  const what = `${name}${strength === undefined ? '' : ` at ${strength}`} [${expect}] ${set}`;
  const inputs = Object.entries(spec.inputs[set] ?? {}).map(([input, file]) => ({
    name: input,
    ...readNpy(join(root, file)),
  }));
  const response = await fetch(`${url}/v2/models/${encodeURIComponent(name)}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs, ...(strength !== undefined && { parameters: { strength } }) }),
  });
  const body = (await response.json()) as InferBody;
  const isRefused = response.status >= 400 && response.status < 500;
  if (expect === 'error') {
    assert.ok(isRefused, `${what} must be refused: ${response.status}`);
    return;
  }
  if (isRefused && expect !== 'ok') return;
  assert.equal(response.status, 200, `${what}: ${body.error ?? ''}`);
  if (expect === 'judge') return;
  const wanted = forms.map((form) => form[set]).filter((files) => files !== undefined);
  const errors = wanted.map((files) => worstError(root, body, files, spec.tolerance.rtol));
  assert.ok(
    errors.some((error) => error <= spec.tolerance.atol),
    `${what}: off by ${Math.min(...errors)}`,
  );
}

for (const name of readdirSync(CASES).sort()) {
  const root = join(CASES, name);
  if (!existsSync(join(root, 'cases.json'))) continue;
  const spec = JSON.parse(readFileSync(join(root, 'cases.json'), 'utf8')) as CaseFile;
  const bases = Object.keys(spec.base_variants ?? { [spec.base]: '' });
  describe(name, { concurrency: false }, () => {
    for (const base of bases) {
      it(base, async () => {
        const server = await startServer({
          model: join(root, base),
          adapters: join(root, 'adapters'),
          cacheDir: cache,
        });
        try {
          const jobs = expectations(spec).flatMap((expected) =>
            Object.keys(spec.inputs).map((set) => () => check(server.url, root, spec, expected, set)),
          );
          for (const job of jobs) await job();
          await Promise.all(jobs.map((job) => job()));
        } finally {
          await server.stop();
        }
      });
    }
  });
}
