/** Heads that adapters bring, of the base's width and of others, and what their classes are called. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { inspectAdapter, loadAdapter } from '#dist/adapters/index.js';
import {
  boftConfig,
  loadContext,
  MODULES,
  numbers,
  queryTensors,
  refusal,
  temporaryDirectory,
  writeAdapter,
  type Tensors,
} from './support.js';

const WEIGHT = 'base_model.model.classifier.weight';
const BIAS = 'base_model.model.classifier.bias';

/** The test base, whose classifier (6 → 3) is a head. */
const HEADED = MODULES.map((module) => ({
  ...module,
  isHead: module.name === 'classifier',
  hasBias: module.name === 'classifier',
}));

interface Given {
  readonly weight: readonly number[];
  readonly bias?: number;
  readonly config?: object;
  /** Text or value of config.json. */
  readonly model?: unknown;
  readonly strength?: number;
  readonly modules?: typeof HEADED;
  readonly more?: Tensors;
}

function load(t: TestContext, { weight, bias, config, model, strength, modules = HEADED, more }: Given) {
  const root = temporaryDirectory(t);
  const tensors: Tensors = {
    ...queryTensors(),
    [WEIGHT]: { shape: weight, values: numbers(weight.reduce((size, n) => size * n, 1)) },
    ...(bias !== undefined && { [BIAS]: { shape: [bias], values: numbers(bias) } }),
    ...more,
  };
  const folder = writeAdapter(root, 'a', tensors, boftConfig(config));
  if (model !== undefined) {
    writeFileSync(
      path.join(folder, 'config.json'),
      typeof model === 'string' || Buffer.isBuffer(model) ? model : JSON.stringify(model),
    );
  }
  const context = loadContext(root, { modules });
  const loaded = loadAdapter(context, 'a', strength);
  const head = loaded.operands.find(({ module }) => module === 'classifier');
  return { ...loaded, head, summary: inspectAdapter(context, 'a') };
}

const FIVE = { id2label: { 0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e' } };
const names = (count: number) => Array.from({ length: count }, (_, i) => `LABEL_${i}`);

test('a head of another width, declared by its model’s configuration', (t) => {
  const { head, labels, summary } = load(t, { weight: [5, 6], bias: 5, model: FIVE });
  assert.equal(head?.weight?.length, 30);
  assert.equal(head.bias?.length, 5);
  assert.deepEqual(labels, ['a', 'b', 'c', 'd', 'e']);
  assert.deepEqual(summary.labels, labels);
  assert.deepEqual(load(t, { weight: [1, 6], bias: 1, model: { num_labels: 1 } }).labels, names(1));
});

test('a head of another width, declared by its task: the default names', (t) => {
  for (const task_type of ['SEQ_CLS', 'TOKEN_CLS']) {
    const { head, labels } = load(t, {
      weight: [4, 6],
      bias: 4,
      config: { task_type },
      model: { id2label: null },
    });
    assert.equal(head?.weight?.length, 24);
    assert.deepEqual(labels, names(4));
  }
});

test('labels of a head as wide as the base’s, and none without a head', (t) => {
  const model = { id2label: { 0: 'x', 1: 'y', 2: 'z' } };
  assert.deepEqual(load(t, { weight: [3, 6], bias: 3, model }).labels, ['x', 'y', 'z']);
  assert.equal(load(t, { weight: [3, 6], bias: 3 }).labels, null);
  assert.equal(load(t, { weight: [3, 6], bias: 3, model, strength: 0 }).labels, null);
  // Of a model's configuration that tells of something else, for a task without labels.
  assert.equal(load(t, { weight: [3, 6], bias: 3, model: FIVE }).labels, null);
  const root = temporaryDirectory(t);
  writeFileSync(path.join(writeAdapter(root, 'a', queryTensors()), 'config.json'), JSON.stringify(model));
  assert.equal(loadAdapter(loadContext(root), 'a').labels, null);
});

test('a base without a bias needs none of the head', (t) => {
  const modules = HEADED.map((module) => ({ ...module, hasBias: false }));
  assert.equal(load(t, { weight: [5, 6], model: FIVE, modules }).head?.bias, undefined);
});

test('the labels are part of the version', (t) => {
  const digest = (model?: unknown) => load(t, { weight: [3, 6], bias: 3, model }).digest;
  assert.equal(digest(), digest());
  assert.notEqual(digest({}), digest());
  assert.notEqual(digest({ id2label: { 0: 'x', 1: 'y', 2: 'z' } }), digest({}));
});

test('refused: another width that nothing declares, or something else declares', (t) => {
  const head = { weight: [5, 6], bias: 5 };
  const mismatch = refusal('ADAPTER_SHAPE_MISMATCH', WEIGHT, 'id2label', 'task_type');
  assert.throws(() => load(t, head), mismatch);
  assert.throws(() => load(t, { ...head, config: { task_type: 'CAUSAL_LM' } }), mismatch);
  assert.throws(() => load(t, { ...head, model: {} }), mismatch);
  const model = { id2label: { 0: 'x', 1: 'y', 2: 'z', 3: 'w' } };
  assert.throws(() => load(t, { ...head, model, config: { task_type: 'SEQ_CLS' } }), mismatch);
  // A layer inside the model, whose result others read.
  const modules = HEADED.map((module) => ({ ...module, isHead: false }));
  assert.throws(() => load(t, { ...head, model: FIVE, modules }), refusal('ADAPTER_SHAPE_MISMATCH', '[3]'));
});

test('refused: heads whose parts do not fit each other or the base', (t) => {
  const given = { model: FIVE };
  assert.throws(
    () => load(t, { ...given, weight: [5, 7], bias: 5 }),
    refusal('ADAPTER_SHAPE_MISMATCH', WEIGHT),
  );
  assert.throws(
    () => load(t, { ...given, weight: [5, 6], bias: 3 }),
    refusal('ADAPTER_SHAPE_MISMATCH', BIAS),
  );
  assert.throws(
    () => load(t, { ...given, weight: [5, 6] }),
    refusal('ADAPTER_TENSOR_MISSING', WEIGHT, 'bias'),
  );
  assert.throws(
    () => load(t, { weight: [0, 6], bias: 0, config: { task_type: 'SEQ_CLS' } }),
    refusal('ADAPTER_SHAPE_MISMATCH', WEIGHT),
  );
  assert.throws(
    () => load(t, { weight: [3, 6], bias: 3, model: FIVE, config: { task_type: 'SEQ_CLS' } }),
    refusal('ADAPTER_CONFIG_CONFLICT', WEIGHT, '3 classes', '5 labels'),
  );
});

test('refused: a config.json that cannot be read', (t) => {
  const invalid = (model: unknown, ...words: string[]) => {
    assert.throws(
      () => load(t, { weight: [3, 6], bias: 3, model }),
      refusal('ADAPTER_CONFIG_INVALID', 'config.json', ...words),
    );
  };
  invalid('{', 'JSON');
  invalid(Buffer.of(0x22, 0xff, 0x22), 'UTF-8');
  invalid('[]', 'top level');
  invalid({ id2label: ['a', 'b'] }, 'id2label');
  invalid({ id2label: { 0: 'a', 2: 'b' } }, 'from 0');
  invalid({ id2label: {} }, 'from 0');
  invalid({ num_labels: 0 }, 'num_labels');
  invalid(`{"x": "${' '.repeat(2 ** 20)}"}`, 'larger');
});
