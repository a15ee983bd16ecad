import assert from 'node:assert/strict';
import { once } from 'node:events';
import { renameSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { PapillonError } from '#dist/errors.js';
import type { ErrorCode } from '#dist/errors.js';
import { TokenizerThread } from '#dist/tasks/tokenizer.js';
import {
  CLS,
  LATE,
  MY,
  ORDER,
  REFUND,
  S,
  SEP,
  TOKENIZER,
  UNK,
  createFolder,
  modelFolder,
  removeFolder,
} from './fixture.js';

const folders: string[] = [];
const threads: TokenizerThread[] = [];

function folderOf(files?: Readonly<Record<string, unknown>>): string {
  const folder = files === undefined ? modelFolder() : createFolder(files);
  folders.push(folder);
  return folder;
}

async function start(files?: Readonly<Record<string, unknown>>): Promise<TokenizerThread> {
  const thread = await TokenizerThread.start(folderOf(files));
  threads.push(thread);
  return thread;
}

/** Starts a thread and hands out its worker, too. */
async function startWithWorker(): Promise<{ thread: TokenizerThread; worker: Worker }> {
  const created: Worker[] = [];
  const listener = (worker: Worker): void => void created.push(worker);
  process.on('worker', listener);
  const thread = await start();
  process.off('worker', listener);
  const worker = created.at(0);
  assert.ok(worker !== undefined);
  return { thread, worker };
}

function fails(code: ErrorCode, message = /./) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof PapillonError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    for (const folder of folders) assert.ok(!error.message.includes(folder), 'a path in a message');
    return true;
  };
}

after(async () => {
  await Promise.all(threads.map((thread) => thread.close()));
  folders.forEach(removeFolder);
});

describe('TokenizerThread', () => {
  it('gives the tokens of each text, special tokens included', async () => {
    const thread = await start();
    const encoded = await thread.encode(['Refund my orders', '', 'strange LATE'], { limit: null });
    assert.deepEqual([...encoded.lengths], [6, 2, 4]);
    assert.deepEqual([...encoded.ids], [CLS, REFUND, MY, ORDER, S, SEP, CLS, SEP, CLS, UNK, LATE, SEP]);
    assert.deepEqual([...encoded.typeIds], Array(12).fill(0));
    assert.equal(encoded.truncated, 0);
  });

  it('answers calls side by side, each with its own texts', async () => {
    const thread = await start();
    const texts = Array.from({ length: 50 }, (_, i) => 'my '.repeat(i).trim());
    const all = await Promise.all(texts.map((text) => thread.encode([text], { limit: null })));
    assert.deepEqual(
      all.map((encoded) => encoded.ids.length),
      texts.map((_, i) => i + 2),
    );
  });

  it('lets a short call overtake a long one', async () => {
    const thread = await start();
    const order: string[] = [];
    const long = thread.encode(Array(20).fill('my '.repeat(10_000)), { limit: null });
    const short = thread.encode(['my'], { limit: null });
    await Promise.all([long.then(() => order.push('long')), short.then(() => order.push('short'))]);
    assert.deepEqual(order, ['short', 'long']);
  });

  it('cuts the right end and keeps the special tokens', async () => {
    const thread = await start();
    const limit = { maxTokens: 4, side: 'right' } as const;
    const encoded = await thread.encode(['refund my orders', 'my late', 'my'], { limit });
    assert.deepEqual([...encoded.lengths], [4, 4, 3]);
    assert.deepEqual([...encoded.ids], [CLS, REFUND, MY, SEP, CLS, MY, LATE, SEP, CLS, MY, SEP]);
    assert.equal(encoded.truncated, 1);
  });

  it('cuts the left end where the tokenizer does', async () => {
    const thread = await start();
    const encoded = await thread.encode(['refund my orders'], { limit: { maxTokens: 4, side: 'left' } });
    assert.deepEqual([...encoded.ids], [CLS, ORDER, S, SEP]);
  });

  it('keeps the types of what it keeps', async () => {
    const post_processor = {
      ...TOKENIZER.post_processor,
      single: [
        { SpecialToken: { id: '[CLS]', type_id: 0 } },
        { Sequence: { id: 'A', type_id: 1 } },
        { SpecialToken: { id: '[SEP]', type_id: 2 } },
      ],
    };
    const thread = await start({ 'tokenizer.json': { ...TOKENIZER, post_processor } });
    const limit = { maxTokens: 4, side: 'right' } as const;
    assert.deepEqual([...(await thread.encode(['refund my orders'], { limit })).typeIds], [0, 1, 1, 2]);
  });

  it('works without a post-processor and without tokenizer_config.json', async () => {
    const thread = await start({ 'tokenizer.json': { ...TOKENIZER, post_processor: null } });
    const limit = { maxTokens: 2, side: 'right' } as const;
    const encoded = await thread.encode(['refund my orders'], { limit });
    assert.deepEqual([...encoded.ids], [REFUND, MY]);
    assert.deepEqual([...encoded.typeIds], [0, 0]);
  });

  it('refuses a text without tokens, naming its position', async () => {
    const thread = await start({ 'tokenizer.json': { ...TOKENIZER, post_processor: null } });
    await assert.rejects(
      thread.encode(['my', ' '], { limit: null }),
      fails('INVALID_REQUEST', /^input\[1\] is empty once tokenised/),
    );
  });

  it('refuses a text that the vocabulary cannot spell', async () => {
    const model = { ...TOKENIZER.model, vocab: { my: 5, '[CLS]': 2, '[SEP]': 3 } };
    const added_tokens = TOKENIZER.added_tokens.filter((token) => token.content !== '[UNK]');
    const thread = await start({ 'tokenizer.json': { ...TOKENIZER, added_tokens, model } });
    await assert.rejects(
      thread.encode(['late'], { limit: null }),
      fails('INVALID_REQUEST', /^input\[0\] holds characters outside/),
    );
  });

  it('refuses a limit that leaves room for special tokens only', async () => {
    const thread = await start();
    await assert.rejects(
      thread.encode(['my'], { limit: { maxTokens: 2, side: 'right' } }),
      fails('SEQUENCE_TOO_LONG', /^input\[0\] has 3 tokens, the model takes 2/),
    );
  });

  it('gives up a call whose signal is aborted, and no other', async () => {
    const thread = await start();
    const controller = new AbortController();
    const aborted = thread.encode(Array(20).fill('my '.repeat(10_000)), {
      limit: null,
      signal: controller.signal,
    });
    const other = thread.encode(['my'], { limit: null });
    controller.abort();
    await assert.rejects(aborted, fails('CLIENT_CLOSED'));
    assert.equal((await other).ids.length, 3);
    await assert.rejects(
      thread.encode(['my'], { limit: null, signal: controller.signal }),
      fails('CLIENT_CLOSED'),
    );
  });

  it('takes only so many texts at a time', async () => {
    const thread = await start();
    const first = thread.encode(Array(16_384).fill('my'), { limit: null });
    await assert.rejects(thread.encode(['my'], { limit: null }), fails('QUEUE_FULL'));
    await first;
    assert.equal((await thread.encode(['my'], { limit: null })).ids.length, 3);
  });

  it('starts again when the thread is lost, failing only what was under way', async () => {
    const { thread, worker } = await startWithWorker();
    const lost = thread.encode(Array(20).fill('my '.repeat(10_000)), { limit: null });
    const rejected = assert.rejects(lost, fails('ENGINE_RESTARTED'));
    void worker.terminate();
    await rejected;
    assert.equal((await thread.encode(['my'], { limit: null })).ids.length, 3);
  });

  it('tells what is wrong when the files are gone by the time it starts again, and recovers', async () => {
    const { thread, worker } = await startWithWorker();
    const folder = folders.at(-1) ?? '';
    renameSync(`${folder}/tokenizer.json`, `${folder}/away.json`);
    void worker.terminate();
    await once(worker, 'exit');
    await assert.rejects(
      thread.encode(['my'], { limit: null }),
      fails('UNSUPPORTED', /cannot be read \(ENOENT\)/),
    );
    renameSync(`${folder}/away.json`, `${folder}/tokenizer.json`);
    assert.equal((await thread.encode(['my'], { limit: null })).ids.length, 3);
  });

  it('rejects what is under way and what comes after it is closed', async () => {
    const thread = await start();
    const pending = assert.rejects(thread.encode(['my'], { limit: null }), fails('SHUTTING_DOWN'));
    await thread.close();
    await pending;
    await assert.rejects(thread.encode(['my'], { limit: null }), fails('SHUTTING_DOWN'));
    await thread.close();
  });
});

describe('TokenizerThread.start refuses', () => {
  const cases: [string, Readonly<Record<string, unknown>>, RegExp][] = [
    ['a missing tokenizer.json', {}, /^tokenizer\.json cannot be read \(ENOENT\)$/],
    ['text that is not JSON', { 'tokenizer.json': '{' }, /^tokenizer\.json is not valid JSON$/],
    ['JSON that is no object', { 'tokenizer.json': '3' }, /^tokenizer\.json is not a JSON object$/],
    [
      'an unknown kind of tokenizer',
      { 'tokenizer.json': { ...TOKENIZER, pre_tokenizer: { type: 'Telepathy' } } },
      /^tokenizer\.json is not supported: .*Telepathy/,
    ],
    [
      'a broken tokenizer_config.json',
      { 'tokenizer.json': TOKENIZER, 'tokenizer_config.json': '[' },
      /^tokenizer_config\.json is not valid JSON$/,
    ],
  ];
  for (const [name, files, message] of cases) {
    it(name, async () => {
      await assert.rejects(TokenizerThread.start(folderOf(files)), fails('UNSUPPORTED', message));
    });
  }
});
