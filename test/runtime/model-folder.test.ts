/** Where the model's file is, by the layouts of the Hugging Face hub; and what is refused, without naming paths. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, it } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import { locateModel } from '#dist/runtime/model-folder.js';
import { temporaryFolder } from '../support/temp-folder.js';

function folderWith(...files: string[]): string {
  const folder = temporaryFolder();
  for (const file of files) {
    mkdirSync(join(folder, file, '..'), { recursive: true });
    writeFileSync(join(folder, file), '');
  }
  return folder;
}

function refusal(path: string): string {
  try {
    locateModel(path);
  } catch (error) {
    assert.ok(error instanceof PapillonError, String(error));
    assert.equal(error.code, 'BASE_UNREADABLE');
    assert.ok(!error.message.includes(path), error.message);
    assert.ok(!error.message.includes('papillon-test'), error.message);
    return error.message;
  }
  assert.fail('was not refused');
}

describe('a model folder', () => {
  it('with model.onnx', () => {
    const folder = folderWith('model.onnx', 'config.json');
    const id = basename(folder);
    assert.deepEqual(locateModel(folder), { file: join(folder, 'model.onnx'), folder, id });
  });

  it('with onnx/model.onnx', () => {
    const folder = folderWith('onnx/model.onnx', 'onnx/model_quantized.onnx', 'config.json');
    const file = join(folder, 'onnx', 'model.onnx');
    assert.deepEqual(locateModel(folder), { file, folder, id: basename(folder) });
  });

  it('prefers model.onnx at the top', () => {
    const folder = folderWith('onnx/model.onnx', 'model.onnx');
    assert.equal(locateModel(folder).file, join(folder, 'model.onnx'));
  });

  it('with a single file of another name', () => {
    const folder = folderWith('decoder.onnx', 'config.json');
    assert.equal(locateModel(folder).file, join(folder, 'decoder.onnx'));
  });

  it('through a symbolic link', () => {
    const folder = folderWith('model.onnx');
    const link = join(temporaryFolder(), 'linked');
    symlinkSync(folder, link);
    assert.deepEqual(locateModel(link), { file: join(link, 'model.onnx'), folder: link, id: 'linked' });
  });
});

describe('a model file', () => {
  it('is named after its folder when it is model.onnx, else after itself', () => {
    const folder = folderWith('model.onnx', 'router.onnx');
    assert.equal(locateModel(join(folder, 'model.onnx')).id, basename(folder));
    const router = locateModel(join(folder, 'router.onnx'));
    assert.deepEqual(router, { file: join(folder, 'router.onnx'), folder, id: 'router' });
  });
});

describe('refused is', () => {
  it('a path that does not exist', () => {
    assert.match(refusal(join(temporaryFolder(), 'nowhere')), /does not exist/);
  });

  it('a path below a file', () => {
    assert.match(refusal(join(folderWith('model.onnx'), 'model.onnx', 'deeper')), /does not exist/);
  });

  it('what is neither file nor folder', () => {
    assert.match(refusal('/dev/null'), /does not exist/);
  });

  it('a folder without a model', () => {
    assert.match(refusal(folderWith('config.json')), /no \.onnx file/);
  });

  it('a folder with several to choose from, by name', () => {
    assert.match(refusal(folderWith('a.onnx', 'b.onnx')), /several: a\.onnx, b\.onnx/);
  });
});
