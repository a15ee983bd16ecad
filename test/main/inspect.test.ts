/** `papillon inspect`: what it tells of models and adapters, as text and as JSON, and how it refuses. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { DEMO_ADAPTERS, DEMO_MODEL, ROOT, runMain } from '../e2e/server.js';
import { temporaryFolder } from '../support/temp-folder.js';

const cache = temporaryFolder();
const ADAPTER = join(DEMO_ADAPTERS, 'acme-retail');
const QUERY = 'bert.encoder.layer.0.attention.self.query';

async function inspect(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runMain(['inspect', ...args, '--cache-dir', cache]);
  assert.deepEqual([code, stderr], [0, '']);
  return stdout;
}

async function inspectJson<T>(...args: readonly string[]): Promise<T> {
  return JSON.parse(await inspect(...args, '--json')) as T;
}

interface ModelReport {
  readonly id: string;
  readonly inputs: readonly { readonly name: string }[];
  readonly multiplicationsPerToken: number;
  readonly notAdaptable: readonly string[];
  readonly probeError: string | null;
  readonly modules: readonly {
    readonly name: string;
    readonly kind: string;
    readonly inFeatures: number;
    readonly outFeatures: number;
    readonly bias: boolean;
    readonly mixed: boolean;
  }[];
}

interface AdapterReport {
  readonly id: string;
  readonly version: string;
  readonly kind: string;
  readonly base: string;
  readonly orthogonalityResidual: number;
  readonly bytes: number;
  readonly addedMultiplicationsPerToken: number;
  readonly relativeToBase: number | null;
  readonly labels: readonly string[] | null;
  readonly modules: readonly {
    readonly name: string;
    readonly blockSize: number | null;
    readonly outputBlockSize: number | null;
    readonly scale: boolean;
  }[];
}

describe('papillon inspect of a model', () => {
  test('as text: its inputs, outputs and every module', async () => {
    const text = await inspect(DEMO_MODEL);
    assert.match(text, /^demo-router \([0-9a-f]+\)\n/);
    assert.match(text, /^inputs {3}input_ids INT64 \[batch, sequence\]; /m);
    assert.match(text, /^outputs {2}logits FP32 \[batch, 8\]$/m);
    assert.match(text, new RegExp(`^${QUERY} +linear +128 +128 +yes +any mix$`, 'm'));
    assert.match(text, /^bert\.embeddings\.word_embeddings +embedding /m);
  });

  test('as JSON: the same for programs', async () => {
    const report = await inspectJson<ModelReport>(DEMO_MODEL);
    assert.equal(report.id, 'demo-router');
    assert.deepEqual(report.inputs.map(({ name }) => name).sort(), [
      'attention_mask',
      'input_ids',
      'token_type_ids',
    ]);
    assert.deepEqual([report.notAdaptable, report.probeError], [[], null]);
    assert.deepEqual(
      report.modules.find(({ name }) => name === QUERY),
      { name: QUERY, kind: 'linear', inFeatures: 128, outFeatures: 128, bias: true, mixed: true },
    );
    const multiplied = report.modules.filter(({ kind }) => kind === 'linear');
    const cost = multiplied.reduce((sum, module) => sum + module.inFeatures * module.outFeatures, 0);
    assert.equal(report.multiplicationsPerToken, cost);
  });
});

describe('papillon inspect of an adapter', () => {
  test('without a base: what its files hold', async () => {
    const text = await inspect(ADAPTER);
    assert.match(text, /^acme-retail \(BOFT\), 12 tensors\./);
    const report = await inspectJson<{ kind: string; tensors: { name: string; shape: number[] }[] }>(ADAPTER);
    assert.equal(report.kind, 'BOFT');
    const rotation = report.tensors.find(({ name }) => name === `base_model.model.${QUERY}.boft_R`);
    assert.deepEqual(rotation?.shape, [1, 8, 16, 16]);
  });

  test('with its base: what it adapts, costs and needs', async () => {
    const text = await inspect(ADAPTER, '--model', DEMO_MODEL);
    assert.match(text, /^acme-retail@[0-9a-f]{12} \(BOFT\) on demo-router\nadapts {3}6 of \d+ modules\n/);
    assert.match(text, new RegExp(`^${QUERY} +16 +- +yes +- +- +\\+13\\.3%$`, 'm'));
    const report = await inspectJson<AdapterReport>(ADAPTER, '--model', DEMO_MODEL);
    assert.deepEqual([report.id, report.kind, report.base], ['acme-retail', 'BOFT', 'demo-router']);
    assert.match(report.version, /^[0-9a-f]{12}$/);
    assert.equal(report.modules.length, 6);
    assert.ok(report.modules.every(({ blockSize, scale }) => blockSize === 16 && scale));
    // d·e for the rotation and n for the scale, of each.
    assert.equal(report.addedMultiplicationsPerToken, 6 * (128 * 16 + 128));
    assert.equal(report.bytes, 6 * 4 * (128 * 16 + 128));
    assert.ok(report.orthogonalityResidual < 1e-6);
    assert.ok(report.relativeToBase !== null && report.relativeToBase > 0.01 && report.relativeToBase < 0.1);
  });

  test('that rotates results, brings a head and labels', async () => {
    const root = join(ROOT, 'test/golden/bert_seqcls');
    const model = ['--model', join(root, 'base.onnx')];
    const report = await inspectJson<AdapterReport>(join(root, 'adapters/boft_b8_m2_head5'), ...model);
    assert.equal(report.labels?.length, 5);
    const legacy = join(ROOT, 'test/golden/bert_oft_legacy');
    const output = await inspectJson<AdapterReport>(
      join(legacy, 'adapters/oft_v013_r4'),
      ...['--model', join(legacy, 'base.onnx')],
    );
    assert.ok(output.modules.some(({ blockSize, outputBlockSize }) => !blockSize && outputBlockSize));
    assert.ok(output.addedMultiplicationsPerToken > 0);
  });

  test('that is reached by a link keeps the link’s name', async () => {
    const folder = temporaryFolder();
    symlinkSync(ADAPTER, join(folder, 'alias'));
    const { id } = await inspectJson<AdapterReport>(join(folder, 'alias'), '--model', DEMO_MODEL);
    assert.equal(id, 'alias');
  });
});

describe('papillon inspect refuses', () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'empty'));
  mkdirSync(join(folder, 'lora'));
  writeFileSync(join(folder, 'lora', 'adapter_config.json'), '{"peft_type":"LORA"}');
  cpSync(join(ADAPTER, 'adapter_model.safetensors'), join(folder, 'lora', 'adapter_model.safetensors'));
  writeFileSync(join(folder, 'model.onnx'), 'not a model');
  const other = join(ROOT, 'test/golden/llama_tied/base.onnx');

  const cases: readonly (readonly [what: string, args: readonly string[], said: RegExp])[] = [
    ['what is not there', [join(folder, 'nothing')], /does not exist/],
    ['a folder that holds neither', [join(folder, 'empty')], /no \.onnx file/],
    ['a file that is no model', [join(folder, 'model.onnx')], /not (?:an ONNX file|a valid ONNX)/],
    ['another kind of adapter', [join(folder, 'lora')], /peft_type "LORA"/],
    ['an adapter of another base', [ADAPTER, '--model', other], /the base has no such module/],
    ['an adapter’s base that is not there', [ADAPTER, '--model', folder + '/none'], /does not exist/],
  ];
  for (const [what, args, said] of cases) {
    test(`${what}, in one line and without JSON`, async () => {
      const ended = await runMain(['inspect', ...args, '--cache-dir', cache, '--json']);
      assert.deepEqual([ended.code, ended.stdout], [1, '']);
      assert.match(ended.stderr, /^papillon: [^\n]+\n$/);
      assert.match(ended.stderr, said);
    });
  }
});
