/** The compiled-model cache as a folder on disk. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CompiledCache } from '#dist/runtime/compiled-cache.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';

function withFile(content: string): { file: string; cache: CompiledCache } {
  const folder = temporaryFolder();
  const file = join(folder, 'model.onnx');
  writeFileSync(file, content);
  return { file, cache: CompiledCache.open(join(folder, 'cache')) };
}

describe('opening a cache', () => {
  it('makes its folder and leaves nothing in it', () => {
    const root = join(temporaryFolder(), 'deep', 'cache');
    const cache = CompiledCache.open(root);
    assert.equal(cache.root, root);
    assert.equal(cache.temporary, false);
    assert.deepEqual(readdirSync(root), []);
  });

  it('falls back to a temporary folder where it cannot write', () => {
    const file = join(temporaryFolder(), 'a-file');
    writeFileSync(file, '');
    const cache = CompiledCache.open(join(file, 'cache'));
    assert.equal(cache.temporary, true);
    assert.ok(statSync(cache.root).isDirectory());
  });

  it('clears away what killed processes left, and only that', () => {
    const root = temporaryFolder();
    const days = (count: number): Date => new Date(Date.now() - count * 24 * 60 * 60 * 1000);
    const make = (name: string, changed: Date): void => {
      mkdirSync(join(root, name));
      writeFileSync(join(root, name, 'base.onnx'), 'half');
      utimesSync(join(root, name), changed, changed);
    };
    make('.building-old', days(1.1));
    make('.building-young', days(0.9));
    make('base-0123', days(30));
    writeFileSync(join(root, 'digest-1'), 'kept');
    utimesSync(join(root, 'digest-1'), days(30), days(30));
    CompiledCache.open(root);
    assert.deepEqual(readdirSync(root).sort(), ['.building-young', 'base-0123', 'digest-1']);
  });
});

describe('digests', () => {
  it('depend on bytes and names, not on the place', async () => {
    const one = withFile('weights');
    const two = withFile('weights');
    const three = withFile('weightz');
    const four = withFile('weights');
    const digest = await one.cache.digest([one.file], ['model.onnx']);
    assert.match(digest, /^[0-9a-f]{16}$/);
    assert.equal(await two.cache.digest([two.file], ['model.onnx']), digest);
    assert.notEqual(await three.cache.digest([three.file], ['model.onnx']), digest);
    assert.notEqual(await four.cache.digest([four.file], ['other.onnx']), digest);
  });

  it('notice a change of the same size', async () => {
    const { file, cache } = withFile('weights');
    const before = await cache.digest([file], ['model.onnx']);
    writeFileSync(file, 'WEIGHTS');
    utimesSync(file, new Date(1e12), new Date(1e12));
    assert.notEqual(await cache.digest([file], ['model.onnx']), before);
  });

  it('are remembered, and computed again where the note is damaged', async () => {
    const { file, cache } = withFile('weights');
    const digest = await cache.digest([file], ['model.onnx']);
    const note = at(readdirSync(cache.root));
    writeFileSync(join(cache.root, note), '0123456789abcdef');
    assert.equal(await cache.digest([file], ['model.onnx']), '0123456789abcdef');
    writeFileSync(join(cache.root, note), 'damaged');
    assert.equal(await cache.digest([file], ['model.onnx']), digest);
    assert.equal(readFileSync(join(cache.root, note), 'utf8'), digest);
  });
});

describe('compiled folders', () => {
  it('are one per digest and provider', () => {
    const cache = CompiledCache.open(temporaryFolder());
    assert.equal(cache.folderOf('d1', 'cpu'), cache.folderOf('d1', 'cpu'));
    assert.notEqual(cache.folderOf('d1', 'cpu'), cache.folderOf('d2', 'cpu'));
    assert.notEqual(cache.folderOf('d1', 'cpu'), cache.folderOf('d1', 'webgpu'));
  });

  it('appear whole', () => {
    const cache = CompiledCache.open(temporaryFolder());
    const folder = cache.folderOf('d', 'cpu');
    const staged = cache.stage();
    writeFileSync(join(staged, 'base.onnx'), 'graph');
    assert.ok(!existsSync(folder));
    cache.commit(staged, folder);
    assert.equal(readFileSync(join(folder, 'base.onnx'), 'utf8'), 'graph');
    assert.ok(!existsSync(staged));
  });

  it('keep what a faster process put there', () => {
    const cache = CompiledCache.open(temporaryFolder());
    const folder = cache.folderOf('d', 'cpu');
    for (const content of ['first', 'second']) {
      const staged = cache.stage();
      writeFileSync(join(staged, 'base.onnx'), content);
      cache.commit(staged, folder);
    }
    assert.equal(readFileSync(join(folder, 'base.onnx'), 'utf8'), 'first');
    assert.deepEqual(
      readdirSync(cache.root).filter((name) => name.startsWith('.')),
      [],
    );
  });

  it('fail loudly where moving fails for another reason', () => {
    const cache = CompiledCache.open(temporaryFolder());
    const staged = cache.stage();
    assert.throws(() => {
      cache.commit(staged, join(cache.root, 'no-such-parent', 'folder'));
    });
    assert.ok(!existsSync(staged));
  });
});
