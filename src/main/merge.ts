/** `papillon merge`: writes a plain ONNX model with an adapter merged into its weights. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Command } from 'commander';
import { loadAdapter } from '../adapters/index.js';
import { ConfigError } from '../config.js';
import { PapillonError } from '../errors.js';
import { mergeOutputRotation, mergeWeight, rotateRows } from '../math/index.js';
import { openModel, readFloats, tensorDims } from '../onnx/model.js';
import type { OnnxModel } from '../onnx/model.js';
import { findModules } from '../onnx/modules.js';
import type { GraphModule } from '../onnx/modules.js';
import { replaceParameters, transpose } from '../onnx/passes/replace-parameters.js';
import type { NewParameters } from '../onnx/passes/replace-parameters.js';
import { standaloneFiles, writeStandalone } from '../onnx/standalone.js';
import { locateModel } from '../runtime/index.js';
import type { ModuleOperands } from '../types.js';
import { MAP_FILE, UNLIMITED, loadContext } from './base-context.js';

const MODEL_FILE = 'model.onnx';

const CONFIG_FILE = 'config.json';

/** Files of a model folder that describe the model and stay as they are. */
const COMPANIONS =
  /^(?:config|generation_config|tokenizer.*|special_tokens_map|vocab.*|merges|added_tokens|chat_template|(?:pre)?processor_config|spiece|sentencepiece.*)\.(?:json|txt|model|jinja)$/;

export interface MergeRequest {
  /** A model folder or an .onnx file. */
  readonly model: string;
  /** An adapter folder. */
  readonly adapter: string;
  /** Folder to write to; made where it does not exist. */
  readonly output: string;
  /** α, 1 by default: the checkpoint. */
  readonly strength?: number;
  /** Weights of this many bytes go into a file beside the model. */
  readonly externalFromBytes?: number;
}

export function mergeCommand(): Command {
  return new Command('merge')
    .description('Write a plain ONNX model with an adapter merged into its weights, for any ONNX runtime.')
    .argument('<model>', 'a model folder or an .onnx file')
    .argument('<adapter>', 'an adapter folder')
    .requiredOption('-o, --output <folder>', 'folder to write model.onnx and its companions to')
    .option('--strength <alpha>', 'R(α) = Cayley(αS); 1 is the checkpoint', '1')
    .addHelpText(
      'after',
      `
Weights beyond 256 MiB go into model.onnx.data beside model.onnx. Quantised models are refused: requantising merged
weights would be another model.

Example:
  papillon merge models/demo-router adapters/acme-retail -o /tmp/acme-router`,
    )
    .action((model: string, adapter: string, options: { output: string; strength: string }) => {
      const strength = options.strength.trim() === '' ? NaN : Number(options.strength);
      if (!Number.isFinite(strength)) {
        throw new ConfigError(
          `--strength: ${JSON.stringify(options.strength)} is not accepted; give a number`,
        );
      }
      process.stdout.write(`${mergeAdapter({ model, adapter, output: options.output, strength })}\n`);
    });
}

/**
 * Writes `model.onnx` (with `model.onnx.data` where it is large) and the model folder's companions.
 *
 * @returns one line that says what was merged and written.
 * @throws ConfigError where the paths cannot be used; PapillonError ADAPTER_…, SAFETENSORS_…, BASE_…
 */
export function mergeAdapter(request: MergeRequest): string {
  const location = locateModel(request.model);
  const folder = adapterFolder(request.adapter);
  const target = resolve(request.output);
  refuseExisting(request.output, target);
  const model = openModel(location.file);
  const modules = findModules(model);
  const context = loadContext(dirname(folder), location.folder, { modules }, UNLIMITED);
  const adapter = loadAdapter(context, basename(folder), request.strength);
  const companions = readdirSync(location.folder, { withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && (COMPANIONS.test(entry.name) || entry.name === MAP_FILE))
    .map(({ name }) => name);
  replaceParameters(model, mergedModules(model, modules, adapter.operands));
  const { files, weightBytes } = writing(request.output, target, () => {
    const written = writeStandalone(model, target, MODEL_FILE, request);
    const { labels } = adapter;
    for (const name of location.folder === target ? [] : companions) {
      const [from, to] = [join(location.folder, name), join(target, name)];
      if (labels && name === CONFIG_FILE) writeFileSync(to, withLabels(readFileSync(from, 'utf8'), labels));
      else copyFileSync(from, to);
    }
    return written;
  });
  return (
    `merged ${basename(resolve(request.adapter))}@${adapter.digest} into ${adapter.operands.length} modules of ${location.id}: ` +
    `${[...files, ...companions].join(', ')} (${(weightBytes / 2 ** 20).toFixed(1)} MiB of weights)`
  );
}

/** Resolved, so that links on the way to it do not count as leaving its directory. */
function adapterFolder(path: string): string {
  const full = resolve(path);
  if (!existsSync(full) || !statSync(full).isDirectory()) {
    throw new ConfigError(`${JSON.stringify(path)} is not a folder: name the adapter's`);
  }
  return realpathSync(full);
}

function refuseExisting(output: string, target: string): void {
  for (const name of standaloneFiles(MODEL_FILE)) {
    if (!existsSync(join(target, name))) continue;
    throw new ConfigError(
      `--output: ${JSON.stringify(output)} holds a ${name} already; choose another folder`,
    );
  }
}

/** Makes the folder and writes into it; a model that could not be written whole is removed. */
function writing<T>(output: string, target: string, write: () => T): T {
  try {
    mkdirSync(target, { recursive: true });
    return write();
  } catch (error) {
    if (existsSync(target) && statSync(target).isDirectory()) {
      for (const name of [...standaloneFiles(MODEL_FILE), `.${MODEL_FILE}.partial`])
        rmSync(join(target, name), { force: true });
    }
    if (error instanceof PapillonError || error instanceof ConfigError) throw error;
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'an unexpected error';
    throw new ConfigError(`--output: cannot write to ${JSON.stringify(output)} (${reason})`);
  }
}

/** A model's config.json with the labels of the head that an adapter brought. */
function withLabels(text: string, labels: readonly string[]): string {
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch {
    throw new ConfigError(`${CONFIG_FILE} in the model folder is not valid JSON`);
  }
  const id2label = Object.fromEntries(labels.entries());
  const label2id = Object.fromEntries(labels.map((label, id) => [label, id]));
  return `${JSON.stringify({ ...Object(config), id2label, label2id, num_labels: undefined }, null, 2)}\n`;
}

/** One module after another, so that one merged weight is in memory as float32. */
function* mergedModules(
  model: OnnxModel,
  modules: readonly GraphModule[],
  operands: readonly ModuleOperands[],
): Generator<readonly [GraphModule, NewParameters]> {
  const byName = new Map(modules.map((module) => [module.name, module]));
  for (const own of operands) {
    const module = byName.get(own.module);
    if (!module) throw new PapillonError('ADAPTER_MODULE_UNKNOWN', `the base has no module '${own.module}'`);
    yield [module, mergedParameters(model, module, own)];
  }
}

/** W' = diag(s) · Oᵀ · W · Rᵀ of a layer, E' = E · O of an embedding. */
function mergedParameters(model: OnnxModel, module: GraphModule, own: ModuleOperands): NewParameters {
  const { rotation, outputRotation, scale, weight: given, bias } = own;
  const isChanged = rotation ?? outputRotation ?? scale ?? given;
  if (!isChanged) return bias ? { bias } : {};
  let weight = given ?? frozenWeight(model, module);
  if (module.kind === 'embedding') {
    if (!outputRotation) return { weight };
    const { blocks, blockSize: e } = outputRotation;
    const width = module.outFeatures;
    return { weight: rotateRows(weight, weight.length / width, blocks, width / e, e) };
  }
  const rows = weight.length / module.inFeatures;
  if (outputRotation)
    weight = mergeOutputRotation(weight, rows, outputRotation.blockSize, outputRotation.blocks);
  const blocks = rotation ? { size: rotation.blockSize, data: rotation.blocks } : null;
  if (blocks || scale) weight = mergeWeight(weight, rows, blocks, scale ?? null);
  return { weight, ...(bias && { bias }) };
}

/** W [out, in] as the export holds it. */
function frozenWeight(model: OnnxModel, module: GraphModule): Float32Array {
  const values = module.weight ? readFloats(model, module.weight.tensor) : null;
  if (!module.weight || !values) {
    throw new PapillonError(
      'BASE_UNSUPPORTED',
      `'${module.name}' has a quantised weight: merging would requantise it into another model. ` +
        'Merge into the float32 or float16 model',
    );
  }
  if (module.weight.storedOutIn) return values;
  const [rows = 0, columns = 0] = tensorDims(module.weight.tensor);
  return transpose(values, rows, columns);
}
