import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import { readClassifierConfig } from '#dist/tasks/classifier-config.js';
import type { ClassifierConfig } from '#dist/tasks/classifier-config.js';
import { CONFIG, createFolder, removeFolder } from './fixture.js';

const folders: string[] = [];
after(() => {
  folders.forEach(removeFolder);
});

function read(config?: unknown, tokenizer?: unknown): Promise<ClassifierConfig> {
  const folder = createFolder({ 'config.json': config, 'tokenizer_config.json': tokenizer });
  folders.push(folder);
  return readClassifierConfig(folder);
}

describe('readClassifierConfig', () => {
  it('reads labels, class, longest input and padding token', async () => {
    assert.deepEqual(await read({ ...CONFIG, pad_token_id: 7 }), {
      labels: new Map([
        [0, 'billing'],
        [1, 'shipping'],
        [2, 'other'],
      ]),
      activation: null,
      architectures: ['BertForSequenceClassification'],
      maxTokens: 8,
      truncationSide: 'right',
      padTokenId: 7,
    });
  });

  it('needs neither file', async () => {
    assert.deepEqual(await read(), {
      labels: new Map(),
      activation: null,
      architectures: [],
      maxTokens: null,
      truncationSide: 'right',
      padTokenId: 0,
    });
  });

  const problems = [
    ['single_label_classification', 'softmax'],
    ['multi_label_classification', 'sigmoid'],
    ['regression', 'none'],
    [null, null],
  ] as const;
  for (const [problem_type, activation] of problems) {
    it(`reads problem_type ${problem_type}`, async () => {
      assert.equal((await read({ problem_type })).activation, activation);
    });
  }

  const limits: [string, object | undefined, object | undefined, number | null][] = [
    ['the smaller of both limits', { max_position_embeddings: 512 }, { model_max_length: 128 }, 128],
    ['no limit where the tokenizer says 1e30', undefined, { model_max_length: 1e30 }, null],
    ["GPT-2's name for it", { n_positions: 1024 }, undefined, 1024],
    [
      'what an offset leaves of the positions',
      { model_type: 'xlm-roberta', max_position_embeddings: 514, pad_token_id: 1 },
      undefined,
      512,
    ],
  ];
  for (const [name, config, tokenizer, expected] of limits) {
    it(`finds the longest input: ${name}`, async () => {
      assert.equal((await read(config, tokenizer)).maxTokens, expected);
    });
  }

  it('reads which end is cut', async () => {
    assert.equal((await read(undefined, { truncation_side: 'left' })).truncationSide, 'left');
  });

  const refused: [string, unknown, unknown, RegExp][] = [
    ['text that is not JSON', '{', undefined, /^config\.json is not valid JSON$/],
    ['JSON that is no object', '[]', undefined, /^config\.json is not a JSON object$/],
    ['labels that are no text', { id2label: { 0: 5 } }, undefined, /^config\.json .* id2label\.0$/],
    ['a negative length', { max_position_embeddings: -1 }, undefined, /max_position_embeddings$/],
    ['an unknown side', undefined, { truncation_side: 'up' }, /^tokenizer_config\.json .* truncation_side$/],
  ];
  for (const [name, config, tokenizer, message] of refused) {
    it(`refuses ${name}`, async () => {
      await assert.rejects(
        read(config, tokenizer),
        (error: unknown) =>
          error instanceof PapillonError && error.code === 'UNSUPPORTED' && message.test(error.message),
      );
    });
  }

  it('refuses a file that cannot be read, without its path', async () => {
    const folder = createFolder({});
    folders.push(folder);
    mkdirSync(join(folder, 'config.json'));
    await assert.rejects(readClassifierConfig(folder), { message: 'config.json cannot be read (EISDIR)' });
  });
});
