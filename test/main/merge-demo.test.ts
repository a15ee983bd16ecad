/** `papillon merge` on the demo: what it writes is the server's adapter, for any ONNX runtime. */
import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ConfigError } from '#dist/config.js';
import { mergeAdapter } from '#dist/main/merge.js';
import { setOf } from '../e2e/demo.js';
import { DEMO_ADAPTERS, DEMO_MODEL, runMain } from '../e2e/server.js';
import { TENANTS } from '../e2e/workspace.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { at } from '../support/at.js';
import { runOnnx, worstError } from './run-onnx.js';
import type { Feed } from './run-onnx.js';

const TOLERANCE = 1e-4;

function feedOf(ids: readonly number[]): Record<string, Feed> {
  const shape = [1, ids.length];
  return {
    input_ids: { datatype: 'INT64', shape, data: ids },
    attention_mask: { datatype: 'INT64', shape, data: ids.map(() => 1) },
    token_type_ids: { datatype: 'INT64', shape, data: ids.map(() => 0) },
  };
}

/** Largest error of a model file over a set's examples, against PEFT in float64. */
async function errorOn(model: string, set: string): Promise<number> {
  const { logits: examples } = setOf(set);
  const results = await runOnnx(
    model,
    examples.map(({ input_ids: ids }) => feedOf(ids)),
  );
  return Math.max(
    ...examples.map((example, i) =>
      worstError(at(results, i).get('logits')?.data ?? [], example.logits, TOLERANCE),
    ),
  );
}

function merge(adapter: string, options: { strength?: number; externalFromBytes?: number } = {}): string {
  const output = join(temporaryFolder(), 'merged');
  mergeAdapter({ model: DEMO_MODEL, adapter: join(DEMO_ADAPTERS, adapter), output, ...options });
  return output;
}

describe('papillon merge', () => {
  for (const tenant of TENANTS) {
    test(`${tenant}: logits as PEFT computes them, the base's own far away`, async () => {
      const model = join(merge(tenant), 'model.onnx');
      assert.ok((await errorOn(model, tenant)) <= TOLERANCE);
      assert.ok((await errorOn(join(DEMO_MODEL, 'model.onnx'), tenant)) > 0.1);
    });
  }

  test('the command says in one line what it merged and wrote; companions come along', async () => {
    const output = join(temporaryFolder(), 'deep', 'merged');
    const adapter = join(DEMO_ADAPTERS, 'acme-retail');
    const { code, stdout, stderr } = await runMain(['merge', DEMO_MODEL, adapter, '-o', output]);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(
      stdout,
      /^merged acme-retail@[0-9a-f]{12} into 6 modules of demo-router: model\.onnx, .*tokenizer\.json.* \(\d+\.\d MiB of weights\)\n$/,
    );
    const written = readdirSync(output).sort();
    assert.deepEqual(written, ['config.json', 'model.onnx', 'tokenizer.json', 'tokenizer_config.json']);
    for (const name of ['config.json', 'tokenizer.json'])
      assert.deepEqual(readFileSync(join(output, name)), readFileSync(join(DEMO_MODEL, name)));
  });

  test('large weights go into a file of their own, and nothing is lost', async () => {
    const output = merge('globex-cloud', { externalFromBytes: 1024 });
    assert.ok(existsSync(join(output, 'model.onnx.data')));
    const graph = readFileSync(join(output, 'model.onnx'));
    assert.ok(graph.length < 300_000, `${graph.length} bytes`);
    assert.ok((await errorOn(join(output, 'model.onnx'), 'globex-cloud')) <= TOLERANCE);
  });

  test('strength 0 is the base, 1 the checkpoint, ½ neither', async () => {
    const none = join(merge('initech-bank', { strength: 0 }), 'model.onnx');
    assert.ok((await errorOn(none, 'base')) <= TOLERANCE);
    const half = join(merge('initech-bank', { strength: 0.5 }), 'model.onnx');
    assert.ok((await errorOn(half, 'base')) > 0.01);
    assert.ok((await errorOn(half, 'initech-bank')) > 0.01);
  });

  test('a merged model can be merged into again, and read again from its data file', async () => {
    const [first, second] = ['acme-retail', 'meadow-pharmacy'].map((name) => join(DEMO_ADAPTERS, name));
    assert.ok(first !== undefined && second !== undefined);
    const once = merge('acme-retail', { externalFromBytes: 1024 });
    const twice = join(temporaryFolder(), 'twice');
    mergeAdapter({ model: once, adapter: second, output: twice });
    // Two rotations one after the other are neither of them.
    assert.ok((await errorOn(join(twice, 'model.onnx'), 'acme-retail')) > 0.01);
    assert.ok((await errorOn(join(twice, 'model.onnx'), 'meadow-pharmacy')) > 0.01);
    const plain = join(temporaryFolder(), 'again');
    mergeAdapter({ model: once, adapter: first, output: plain, strength: 0 });
    assert.ok((await errorOn(join(plain, 'model.onnx'), 'acme-retail')) <= TOLERANCE);
  });

  test('an adapter behind links merges; so does an .onnx file named itself', async () => {
    const folder = temporaryFolder();
    symlinkSync(DEMO_ADAPTERS, join(folder, 'adapters'));
    symlinkSync(join(DEMO_ADAPTERS, 'acme-retail'), join(folder, 'alias'));
    const onnx = join(DEMO_MODEL, 'model.onnx');
    for (const adapter of ['adapters/acme-retail', 'alias']) {
      const output = join(folder, `out-${adapter.replace('/', '-')}`);
      const said = mergeAdapter({ model: onnx, adapter: join(folder, adapter), output });
      assert.ok(said.startsWith(`merged ${adapter.split('/').at(-1) ?? ''}@`), said);
    }
    assert.ok((await errorOn(join(folder, 'out-alias', 'model.onnx'), 'acme-retail')) <= TOLERANCE);
  });
});

describe('papillon merge refuses', () => {
  const adapter = join(DEMO_ADAPTERS, 'acme-retail');

  for (const name of ['model.onnx', 'model.onnx.data']) {
    test(`to write over a ${name}`, () => {
      const output = temporaryFolder();
      writeFileSync(join(output, name), 'precious');
      assert.throws(
        () => mergeAdapter({ model: DEMO_MODEL, adapter, output }),
        (error) => error instanceof ConfigError && error.message.includes(`holds a ${name} already`),
      );
      assert.equal(readFileSync(join(output, name), 'utf8'), 'precious');
      assert.deepEqual(readdirSync(output), [name]);
    });
  }

  test('an output that is a file, or below one, in one line', () => {
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    for (const output of [file, join(file, 'below')]) {
      assert.throws(
        () => mergeAdapter({ model: DEMO_MODEL, adapter, output }),
        (error) => error instanceof ConfigError && /^--output: .*(EEXIST|ENOTDIR)/.test(error.message),
      );
    }
  });

  test('and leaves nothing behind that it could not finish', () => {
    const model = temporaryFolder();
    cpSync(join(DEMO_MODEL, 'model.onnx'), join(model, 'model.onnx'));
    // Of the companions' names, so that copying it fails after the model was written.
    symlinkSync(join(model, 'nowhere'), join(model, 'tokenizer.json'));
    const output = join(temporaryFolder(), 'merged');
    assert.throws(
      () => mergeAdapter({ model, adapter, output, externalFromBytes: 1024 }),
      (error) => error instanceof ConfigError && error.message.includes('ENOENT'),
    );
    assert.deepEqual(readdirSync(output), []);
  });

  const folder = temporaryFolder();
  mkdirSync(join(folder, 'empty'));
  mkdirSync(join(folder, 'broken'));
  cpSync(join(adapter, 'adapter_config.json'), join(folder, 'broken', 'adapter_config.json'));
  writeFileSync(join(folder, 'broken', 'adapter_model.safetensors'), 'no');
  const output = join(folder, 'out');
  const cases: readonly (readonly [what: string, args: readonly string[], code: number, said: RegExp])[] = [
    ['an adapter that is not there', [DEMO_MODEL, join(folder, 'nobody')], 2, /is not a folder/],
    ['a folder without an adapter', [DEMO_MODEL, join(folder, 'empty')], 1, /no adapter_config\.json/],
    ['a broken adapter', [DEMO_MODEL, join(folder, 'broken')], 1, /fewer than the 8/],
    ['a model that is not there', [join(folder, 'none'), adapter], 1, /does not exist/],
    ['a folder without a model', [join(folder, 'empty'), adapter], 1, /no \.onnx file/],
    ['a strength that is no number', [DEMO_MODEL, adapter, '--strength', 'much'], 2, /--strength: "much"/],
    ['an empty strength', [DEMO_MODEL, adapter, '--strength', ''], 2, /--strength: ""/],
  ];
  for (const [what, args, code, said] of cases) {
    test(`${what}, in one line`, async () => {
      const ended = await runMain(['merge', ...args, '-o', output]);
      assert.deepEqual([ended.code, ended.stdout], [code, '']);
      assert.match(ended.stderr, /^papillon: [^\n]+\n$/);
      assert.match(ended.stderr, said);
      assert.equal(existsSync(output), false);
    });
  }

  test('a call without an output folder', async () => {
    const ended = await runMain(['merge', DEMO_MODEL, adapter]);
    assert.notEqual(ended.code, 0);
    assert.match(ended.stderr, /--output/);
  });
});
