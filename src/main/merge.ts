/** `papillon merge`: writes a plain ONNX model with an adapter merged into its weights. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
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
import { replaceParameters } from '../onnx/passes/replace-parameters.js';
import type { NewParameters } from '../onnx/passes/replace-parameters.js';
import { writeStandalone } from '../onnx/standalone.js';
import { locateModel } from '../runtime/index.js';
import type { ModuleOperands } from '../types.js';
import { loadContext } from './base-context.js';

interface MergeOptions {
  readonly output: string;
  readonly strength: string;
}

/** Files of a model folder that describe the model and stay as they are. */
const COMPANIONS =
  /^(?:config|generation_config|tokenizer.*|special_tokens_map|vocab.*|merges|added_tokens|preprocessor_config|spiece|sentencepiece.*)\.(?:json|txt|model)$/;

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
    .action((model: string, adapter: string, options: MergeOptions) => {
      const strength = Number(options.strength);
      if (!Number.isFinite(strength)) {
        throw new ConfigError(
          `--strength: ${JSON.stringify(options.strength)} is not accepted; give a number`,
        );
      }
      process.stdout.write(`${merge(model, adapter, options.output, strength)}\n`);
    });
}

function merge(modelPath: string, adapterPath: string, output: string, strength: number): string {
  const location = locateModel(modelPath);
  const folder = resolve(adapterPath);
  if (!existsSync(folder) || !statSync(folder).isDirectory()) {
    throw new ConfigError(`${JSON.stringify(adapterPath)} is not a folder`);
  }
  const target = resolve(output);
  if (existsSync(join(target, 'model.onnx'))) {
    throw new ConfigError(
      `--output: ${JSON.stringify(output)} holds a model.onnx already; choose another folder`,
    );
  }
  const model = openModel(location.file);
  const modules = findModules(model);
  const context = loadContext(dirname(folder), location.folder, modules, Number.MAX_SAFE_INTEGER);
  const adapter = loadAdapter(context, basename(folder), strength);
  const byName = new Map(modules.map((module) => [module.name, module]));
  const replacements = new Map<string, NewParameters>();
  for (const own of adapter.operands) {
    const module = byName.get(own.module);
    if (!module) throw new PapillonError('ADAPTER_MODULE_UNKNOWN', `the base has no module '${own.module}'`);
    replacements.set(own.module, mergedParameters(model, module, own));
  }
  replaceParameters(model, modules, replacements);
  mkdirSync(target, { recursive: true });
  const { files, weightBytes } = writeStandalone(model, target, 'model.onnx');
  const companions = readdirSync(location.folder).filter((name) => COMPANIONS.test(name));
  for (const name of companions) copyFileSync(join(location.folder, name), join(target, name));
  return (
    `merged ${basename(folder)}@${adapter.digest} into ${replacements.size} modules of ${location.id}: ` +
    `${[...files, ...companions].join(', ')} (${(weightBytes / 2 ** 20).toFixed(1)} MiB of weights)`
  );
}

/** W' = diag(s) · Oᵀ · W · Rᵀ of a layer, E' = E · O of an embedding. */
function mergedParameters(model: OnnxModel, module: GraphModule, own: ModuleOperands): NewParameters {
  const { rotation, outputRotation, scale, weight: given, bias } = own;
  const isChanged = rotation ?? outputRotation ?? scale ?? given;
  if (!isChanged) return bias ? { bias } : {};
  let weight = given ?? frozenWeight(model, module);
  if (module.kind === 'embedding' && outputRotation) {
    const { blocks, blockSize: e } = outputRotation;
    const width = module.outFeatures;
    return { weight: rotateRows(weight, weight.length / width, blocks, width / e, e) };
  }
  const rows = weight.length / module.inFeatures;
  if (outputRotation)
    weight = mergeOutputRotation(weight, rows, outputRotation.blockSize, outputRotation.blocks);
  const blocks = rotation ? { size: rotation.blockSize, data: rotation.blocks } : null;
  return { weight: mergeWeight(weight, rows, blocks, scale ?? null), ...(bias && { bias }) };
}

/** W [out, in] as the export holds it. */
function frozenWeight(model: OnnxModel, module: GraphModule): Float32Array {
  const values = module.weight ? readFloats(model, module.weight.tensor) : null;
  if (!module.weight || !values) {
    throw new PapillonError(
      'BASE_UNSUPPORTED',
      `'${module.name}' has a quantised weight: merging would requantise it into another model`,
    );
  }
  if (module.weight.storedOutIn) return values;
  const [rows = 0, columns = 0] = tensorDims(module.weight.tensor);
  return Float32Array.from({ length: values.length }, (_, at) => {
    const [o, i] = [Math.floor(at / rows), at % rows];
    return values[i * columns + o] as number;
  });
}
