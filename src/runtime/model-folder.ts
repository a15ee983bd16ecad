/** Finds the ONNX file of a model given as a folder laid out as on the Hugging Face hub, or as a file. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { PapillonError } from '../errors.js';

export interface ModelLocation {
  /** The .onnx file. */
  readonly file: string;
  /** The folder that holds config.json, tokenizer.json, …: the one given, or the file's. */
  readonly folder: string;
  /** The model's id: the folder's name. */
  readonly id: string;
}

const CANDIDATES = ['model.onnx', join('onnx', 'model.onnx')];

/** Undefined for whatever cannot be looked at: missing, below a file, behind a folder that is closed to us. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    throw new PapillonError('BASE_UNREADABLE', 'the model folder cannot be read', { cause: error });
  }
}

/** Throws BASE_UNREADABLE when there is no model, or more than one to choose from. */
export function locateModel(path: string): ModelLocation {
  const full = resolve(path);
  const stat = statOf(full);
  if (!stat?.isFile() && !stat?.isDirectory())
    throw new PapillonError('BASE_UNREADABLE', 'the model does not exist: check --model');
  if (stat.isFile()) {
    const stem = basename(full).replace(/\.onnx$/, '');
    const folder = dirname(full);
    return { file: full, folder, id: stem === 'model' ? basename(folder) : stem };
  }
  const known = CANDIDATES.map((name) => join(full, name)).find((name) => existsSync(name));
  if (known) return { file: known, folder: full, id: basename(full) };
  const others = namesIn(full).filter((name) => name.endsWith('.onnx'));
  const only = others.at(0);
  if (others.length === 1 && only !== undefined)
    return { file: join(full, only), folder: full, id: basename(full) };
  const found = others.length === 0 ? 'no .onnx file' : `several: ${others.join(', ')}`;
  throw new PapillonError(
    'BASE_UNREADABLE',
    `the model folder holds ${found}. Expected model.onnx or onnx/model.onnx, or name one file with --model`,
  );
}
