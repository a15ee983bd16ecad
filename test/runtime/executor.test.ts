/** The executor end to end on a tiny masked encoder: any mixture of adapters equals the float64 reference. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import type { AdapterOperands, BatchItem, BatchResult, Tensor } from '#dist/types.js';
import { relativeError } from '../reference/linear-site.js';
import { encoderReference } from '../reference/tiny-encoder.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { adapter, copyOperands, moduleOperands } from '../support/tiny-adapters.js';
import type { Brings } from '../support/tiny-adapters.js';
import { CLASSES, INNER, WIDTH, tinyEncoder } from '../support/tiny-encoder.js';
import { generator, writeModel } from '../support/tiny-models.js';
import { modulesOf, start, textItem } from './harness.js';
import type { Started, Text } from './harness.js';

const TOLERANCE = 1e-5;
const encoder = tinyEncoder();

function brings(module: string, what: Brings, seed: number): AdapterOperands['modules'][number] {
  const layer = encoder.parameters.layers.get(module);
  const size = layer ?? { module, inFeatures: WIDTH, outFeatures: WIDTH };
  return moduleOperands({ ...size, module }, what, seed);
}

const ADAPTERS: readonly AdapterOperands[] = [
  adapter('all@1', [
    ...['encoder.query', 'encoder.key', 'encoder.value', 'encoder.output'].map((module, i) =>
      brings(module, { rotation: 4, scale: true }, 100 + i),
    ),
    brings('encoder.up', { rotation: 8, scale: true, bias: true }, 110),
    brings('encoder.down', { rotation: 6, scale: true }, 111),
    brings('pooler', { rotation: 2, scale: true, bias: true }, 112),
    brings('classifier', { rotation: 16, scale: true }, 113),
  ]),
  adapter('attention@1', [
    brings('encoder.query', { rotation: 8 }, 120),
    brings('encoder.value', { rotation: 2, scale: true }, 121),
  ]),
  adapter('down@1', [brings('encoder.down', { rotation: 8 }, 130)]),
  adapter('biases@1', [
    brings('encoder.norm', { bias: true }, 140),
    brings('encoder.up', { bias: true }, 141),
    brings('classifier', { bias: true }, 142),
  ]),
  adapter('head@1', [
    brings('classifier', { weight: true, bias: true }, 150),
    brings('encoder.key', { rotation: 16 }, 151),
  ]),
  adapter('nothing@1', []),
];
const byKey = new Map(ADAPTERS.map((a) => [a.key, a]));

const random = generator(5);
const pick = (count: number): number => Math.floor(((random() + 1) / 2) * count);
function text(length: number): Text {
  return { ids: Array.from({ length }, () => pick(11)) };
}

function rowOf(tensor: Tensor | undefined, row: number): Float32Array {
  assert.ok(tensor);
  const size = tensor.data.length / (tensor.shape[0] as number);
  return (tensor.data as Float32Array).subarray(row * size, (row + 1) * size);
}

function checkRows(
  result: BatchResult,
  items: readonly BatchItem[],
  texts: readonly (readonly Text[])[],
): void {
  assert.equal(result.outputs.length, items.length);
  for (const [i, item] of items.entries()) {
    const operands = modulesOf(byKey.get(item.adapterKey ?? ''));
    for (const [row, { ids, mask = ids.map(() => 1) }] of at(texts, i).entries()) {
      const want = encoderReference(encoder.parameters, ids, mask, operands);
      const logits = at(result.outputs, i).get('logits');
      const hidden = at(result.outputs, i).get('hidden');
      assert.deepEqual(logits?.shape, [item.rows, CLASSES]);
      assert.deepEqual(hidden?.shape, [item.rows, ids.length, WIDTH]);
      for (const [got, expected] of [
        [rowOf(logits, row), want.logits],
        [rowOf(hidden, row), want.hidden],
      ] as const) {
        const error = relativeError(got, expected);
        assert.ok(error <= TOLERANCE, `${item.adapterKey ?? 'base'}, item ${i}: off by ${error}`);
      }
    }
  }
}

let shared: Started;
before(async () => {
  const folder = temporaryFolder();
  shared = await start(writeModel(folder, encoder.proto), `${folder}/cache`);
  await shared.attach(...ADAPTERS);
});

async function runTexts(...parts: readonly (readonly [string | null, ...Text[]])[]): Promise<BatchResult> {
  const items = parts.map(([key, ...texts]) => textItem(key, ...texts));
  const result = await shared.executor.run({ items });
  checkRows(
    result,
    items,
    parts.map(([, ...texts]) => texts),
  );
  return result;
}

describe('the executor describes the model', () => {
  it('with its inputs, outputs, layout and modules', () => {
    const { model, opened } = shared.executor;
    assert.equal(opened.probeError, null);
    assert.deepEqual(opened.lost, []);
    assert.deepEqual(opened.inseparable, []);
    assert.deepEqual(model.layout, { stackable: true, paddedAxis: 'sequence' });
    assert.deepEqual(
      model.inputs.map(({ name, datatype, dims }) => [name, datatype, dims]),
      ['input_ids', 'attention_mask'].map((name) => [name, 'INT64', ['batch', 'sequence']]),
    );
    assert.deepEqual(
      model.outputs.map(({ name, dims }) => [name, dims]),
      [
        ['logits', ['batch', CLASSES]],
        ['hidden', ['batch', 'sequence', WIDTH]],
      ],
    );
    assert.deepEqual(
      new Set(model.modules.map((module) => module.name)),
      new Set([...encoder.parameters.layers.keys(), 'encoder.norm', 'embeddings']),
    );
    const up = model.modules.find((module) => module.name === 'encoder.up');
    assert.deepEqual([up?.kind, up?.inFeatures, up?.outFeatures], ['linear', WIDTH, INNER]);
    assert.deepEqual(up?.bias, encoder.parameters.layers.get('encoder.up')?.bias);
    const norm = model.modules.find((module) => module.name === 'encoder.norm');
    assert.equal(norm?.kind, 'normalization');
    assert.deepEqual(norm.bias, encoder.parameters.norm.beta);
  });
});

describe('a batch equals the reference', () => {
  it('of base requests only, on the untouched graph', async () => {
    const result = await runTexts([null, text(4)], [null, text(4), text(4)]);
    assert.equal(result.plan, 'base');
    assert.equal(result.rows, 3);
    assert.equal(result.distinctAdapters, 0);
  });

  it('of an adapter that changes nothing, on the untouched graph', async () => {
    assert.equal((await runTexts(['nothing@1', text(3)], [null, text(3)])).plan, 'base');
  });

  for (const { key } of ADAPTERS) {
    it(`of ${key} alone, in one row and in several`, async () => {
      await runTexts([key, text(5)]);
      const result = await runTexts([key, text(3), text(3)], [key, text(3)]);
      assert.equal(result.plan === 'base', key === 'nothing@1');
    });

    it(`of ${key} beside base rows`, async () => {
      await runTexts([null, text(4)], [key, text(4)], [null, text(4)]);
    });
  }

  it('of all adapters and the base at once, in any order', async () => {
    const keys = [...ADAPTERS.map((a) => a.key), null];
    for (let round = 0; round < 6; round++) {
      const parts = Array.from({ length: 7 }, () => [at(keys, pick(keys.length)), text(4)] as const);
      await runTexts(...parts);
    }
    const all = await runTexts(...keys.map((key) => [key, text(4)] as const));
    assert.equal(all.rows, keys.length);
    assert.equal(all.distinctAdapters, ADAPTERS.length);
  });

  it('of items with several rows each', async () => {
    await runTexts(['all@1', text(2), text(2)], [null, text(2)], ['down@1', text(2), text(2), text(2)]);
  });
});

describe('padding', () => {
  it('is masked and trimmed: unequal lengths equal the reference', async () => {
    const result = await runTexts(
      ['all@1', text(2)],
      [null, text(7)],
      ['attention@1', text(5), text(5)],
      ['head@1', text(1)],
    );
    assert.equal(result.rows, 5);
    assert.equal(result.tokens, 2 + 7 + 10 + 1);
    assert.equal(result.paddedTokens, 5 * 7);
  });

  it('of the request’s own mask is respected', async () => {
    const ids = [1, 2, 3, 4, 5];
    await runTexts(['all@1', { ids, mask: [1, 1, 1, 0, 0] }], ['down@1', text(6)]);
  });

  it('a row alone and in a batch of the same padded shape is bit-equal', async () => {
    const own = text(3);
    const padded = { ids: [...own.ids, 0, 0, 0], mask: [1, 1, 1, 0, 0, 0] };
    for (const key of [null, 'all@1', 'attention@1', 'head@1']) {
      const alone = await shared.executor.run({ items: [textItem(key, padded)] });
      const items = [textItem('down@1', text(6)), textItem(key, own), textItem('all@1', text(6))];
      const together = await shared.executor.run({ items });
      const hidden = rowOf(at(alone.outputs).get('hidden'), 0).slice(0, 3 * WIDTH);
      assert.deepEqual(rowOf(at(together.outputs, 1).get('hidden'), 0), hidden, String(key));
      assert.deepEqual(
        at(together.outputs, 1).get('logits')?.data,
        at(alone.outputs).get('logits')?.data,
        String(key),
      );
    }
  });

  it('of another shape changes a row by at most 1e-5', async () => {
    const own = text(3);
    const alone = await shared.executor.run({ items: [textItem('all@1', own)] });
    const together = await shared.executor.run({
      items: [textItem('all@1', own), textItem('biases@1', text(9))],
    });
    for (const name of ['logits', 'hidden']) {
      const values = (result: BatchResult) => at(result.outputs).get(name)?.data as Float32Array;
      assert.ok(relativeError(values(alone), values(together)) <= TOLERANCE);
    }
  });
});

describe('inputs', () => {
  it('of a request stay the caller’s', async () => {
    const item = textItem('all@1', text(4));
    const before = structuredClone(item.inputs.get('input_ids'));
    await shared.executor.run({ items: [item] });
    await shared.executor.run({ items: [item, item] });
    assert.deepEqual(item.inputs.get('input_ids'), before);
  });

  it('outside what the model takes fail this batch only', async () => {
    const bad = textItem(null, { ids: [1, 2, 500] });
    await assert.rejects(
      shared.executor.run({ items: [bad] }),
      (error) =>
        error instanceof PapillonError && error.code === 'VALUE_OUT_OF_RANGE' && !error.message.includes('/'),
    );
    await runTexts(['all@1', text(2)]);
  });

  it('that are missing are named', async () => {
    const item = { ...textItem(null, text(2)), inputs: new Map() };
    await assert.rejects(
      shared.executor.run({ items: [item] }),
      (error) => error instanceof PapillonError && error.code === 'MISSING_INPUT',
    );
  });
});

describe('many batches at once', () => {
  it('are answered in their own right', async () => {
    const keys = [...ADAPTERS.map((a) => a.key), null];
    await Promise.all(
      Array.from({ length: 20 }, () =>
        runTexts(...keys.slice(pick(4)).map((key) => [key, text(1 + pick(5))] as const)),
      ),
    );
  });
});

describe('attaching', () => {
  const refused = async (
    modules: AdapterOperands['modules'],
    code: string,
    message: RegExp,
  ): Promise<void> => {
    await assert.rejects(shared.executor.attach(copyOperands(adapter('bad@1', modules))), (error) => {
      assert.ok(error instanceof PapillonError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
    // It is not resident, and mixtures of others run as before.
    await assert.rejects(shared.executor.run({ items: [textItem('bad@1', text(2))] }), /not resident/);
    await runTexts(['all@1', text(2)], ['down@1', text(3)], ['biases@1', text(2)]);
  };

  it('an unknown module is refused and disturbs nothing', async () => {
    const unknown = moduleOperands({ module: 'no.such', inFeatures: 4, outFeatures: 4 }, { scale: true }, 1);
    await refused([...at(ADAPTERS, 2).modules, unknown], 'ADAPTER_MODULE_UNKNOWN', /'no\.such'/);
  });

  it('operands of other sizes are refused and disturb nothing', async () => {
    const wrong = { module: 'encoder.query', inFeatures: WIDTH, outFeatures: WIDTH + 1 };
    await refused([moduleOperands(wrong, { scale: true }, 1)], 'ADAPTER_SHAPE_MISMATCH', /'encoder\.query'/);
    const uneven = {
      ...brings('encoder.key', {}, 1),
      rotation: { blockSize: 5, blocks: new Float32Array(80) },
    };
    await refused([uneven], 'ADAPTER_SHAPE_MISMATCH', /'encoder\.key'/);
  });

  it('a rotated normalization is refused and disturbs nothing', async () => {
    await refused(
      [brings('encoder.norm', { rotation: 4 }, 1)],
      'ADAPTER_PART_UNSUPPORTED',
      /'encoder\.norm'/,
    );
  });

  it('takes the buffers away from the caller', async () => {
    const given = copyOperands(
      adapter('given@1', [brings('encoder.query', { rotation: 4, scale: true }, 9)]),
    );
    await shared.executor.attach(given);
    assert.equal(at(given.modules).scale?.byteLength, 0);
    assert.equal(at(given.modules).rotation?.blocks.byteLength, 0);
    shared.executor.detach('given@1');
  });

  it('detached operands are gone, others stay, and they can come back', async () => {
    const first = at(ADAPTERS);
    shared.executor.detach(first.key);
    shared.executor.detach('never-attached@1');
    await assert.rejects(shared.executor.run({ items: [textItem(first.key, text(2))] }), /not resident/);
    await runTexts(['down@1', text(2)], ['head@1', text(2)]);
    await shared.attach(first);
    await runTexts([first.key, text(2)], ['head@1', text(2)]);
  });

  it('another version beside the first one', async () => {
    const second = adapter('all@2', [brings('encoder.query', { rotation: 8, scale: true }, 77)]);
    byKey.set(second.key, second);
    await shared.attach(second);
    await runTexts(['all@1', text(3)], ['all@2', text(3)], ['all@1', text(3)]);
    shared.executor.detach(second.key);
  });
});
