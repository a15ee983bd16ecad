/** Heads of another width, labels, float16 and quantised bases: `papillon merge` on models exported from torch. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { mergeAdapter } from '#dist/main/merge.js';
import { openModel } from '#dist/onnx/model.js';
import { refusal } from '../adapters/support.js';
import { ROOT } from '../e2e/server.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';

const CASES = join(ROOT, 'test/golden');
const BERT = join(CASES, 'bert_seqcls');

interface ModelConfig {
  readonly model_type?: string;
  readonly num_labels?: number;
  readonly id2label?: Readonly<Record<string, string>>;
  readonly label2id?: Readonly<Record<string, number>>;
}

/** A folder with a base of three labels, and one with an adapter whose head has five. */
function folders(labels: readonly string[] | null): { model: string; adapter: string; output: string } {
  const folder = temporaryFolder();
  const [model, adapter] = [join(folder, 'model'), join(folder, 'five')];
  mkdirSync(model);
  cpSync(join(BERT, 'base.onnx'), join(model, 'model.onnx'));
  const id2label = { 0: 'a', 1: 'b', 2: 'c' };
  writeFileSync(
    join(model, 'config.json'),
    JSON.stringify({ model_type: 'bert', num_labels: 3, id2label, label2id: { a: 0, b: 1, c: 2 } }),
  );
  cpSync(join(BERT, 'adapters/boft_b8_m2_head5'), adapter, { recursive: true });
  rmSync(join(adapter, 'config.json'), { force: true });
  if (labels)
    writeFileSync(
      join(adapter, 'config.json'),
      JSON.stringify({ id2label: Object.fromEntries(labels.entries()) }),
    );
  return { model, adapter, output: join(folder, 'out') };
}

function configOf(folder: string): ModelConfig {
  return JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as ModelConfig;
}

describe('merging a head', () => {
  test('of another width: the output and the labels say so', () => {
    const labels = ['v', 'w', 'x', 'y', 'z'];
    const { model, adapter, output } = folders(labels);
    mergeAdapter({ model, adapter, output });
    const logits = at(openModel(join(output, 'model.onnx')).graph.output);
    assert.equal(logits.type?.tensorType?.shape?.dim.at(-1)?.dimValue, 5n);
    const config = configOf(output);
    assert.equal(config.model_type, 'bert');
    assert.deepEqual(config.id2label, { 0: 'v', 1: 'w', 2: 'x', 3: 'y', 4: 'z' });
    assert.deepEqual(config.label2id, { v: 0, w: 1, x: 2, y: 3, z: 4 });
    assert.equal(config.num_labels, undefined);
    assert.deepEqual(Object.keys(configOf(model).id2label ?? {}), ['0', '1', '2']);
  });

  test('without labels of its own: default names', () => {
    const { model, adapter, output } = folders(null);
    mergeAdapter({ model, adapter, output });
    assert.deepEqual(
      Object.values(configOf(output).id2label ?? {}),
      [0, 1, 2, 3, 4].map((id) => `LABEL_${id}`),
    );
  });

  test('an adapter without a head leaves the labels alone', () => {
    const { model, output } = folders(null);
    mergeAdapter({ model, adapter: join(BERT, 'adapters/boft_b8_m2_all'), output });
    assert.deepEqual(configOf(output), configOf(model));
  });
});

describe('merging into a quantised base', () => {
  for (const name of ['bert_int8_dynamic', 'bert_int8_weights', 'bert_int4']) {
    test(`${name} is refused by the module's name, and nothing is written`, () => {
      const root = join(CASES, name);
      const output = join(temporaryFolder(), 'out');
      const adapter = join(root, 'adapters/boft_b8_m2_all');
      assert.throws(
        () => mergeAdapter({ model: join(root, 'base.onnx'), adapter, output }),
        refusal('BASE_UNSUPPORTED', "'bert.encoder.layer.0.", 'quantised'),
      );
      assert.equal(existsSync(output), false);
    });
  }
});
