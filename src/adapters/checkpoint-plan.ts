/**
 * From a checkpoint's header to what each base module gets: names the parameters, finds their modules and checks
 * every shape, before any value is read. Parameters are the ground truth; the configuration is only checked.
 */
import { PapillonError } from '../errors.js';
import { planBoft } from './boft.js';
import { labelsOf } from './head-labels.js';
import { matchModules } from './match-modules.js';
import { planOft } from './oft.js';
import type { PeftConfig } from './peft-config.js';
import {
  expectShape,
  shapeMismatch,
  type ModuleShape,
  type ModuleTensors,
  type RotationPlan,
  type Stacking,
} from './rotation-plan.js';
import type { TensorEntry } from './safetensors-header.js';

export interface ModulePlan {
  readonly base: ModuleShape;
  readonly rotation: RotationPlan | null;
  /** [out, 1], multiplies the output before the bias. */
  readonly scale: TensorEntry | null;
  readonly bias: TensorEntry | null;
  readonly weight: TensorEntry | null;
}

export interface CheckpointPlan {
  readonly kind: 'BOFT' | 'OFT';
  readonly modules: readonly ModulePlan[];
  /** Of its rotations of inputs. */
  readonly stacking: Stacking;
  /** Labels of its own head, null where the base's hold. */
  readonly labels: readonly string[] | null;
  /** Most bytes that its operands can take, float32. */
  readonly bytes: number;
}

const KEY_PREFIX = 'base_model.model.';
const PARAMETER =
  /^(.+?)\.(boft_[RsP]|oft_R\.weight|oft_[rs]|oft_embedding_R\.weight|base_layer\.(?:weight|bias)|weight|bias)$/;
/** Parameters that only a module rotated by PEFT has. */
const ADAPTED = /^(boft_|oft_|base_layer\.)/;
/** PEFT's task types that train a new head for the task's own labels. */
const HEAD_TASKS = new Set(['SEQ_CLS', 'TOKEN_CLS']);

/** What a checkpoint is planned for. */
export interface PlanTarget {
  /** The base's. */
  readonly modules: readonly ModuleShape[];
  /** PEFT module name → base module name, where the model folder says so. */
  readonly nameMap?: ReadonlyMap<string, string>;
  /** What the adapter's own config.json declares, null where it declares none. */
  readonly labels: readonly string[] | null;
}

/**
 * @param entries the safetensors header.
 * @throws PapillonError ADAPTER_EMPTY, ADAPTER_TENSOR_UNKNOWN, ADAPTER_TENSOR_MISSING, ADAPTER_SHAPE_MISMATCH,
 * ADAPTER_CONFIG_CONFLICT, ADAPTER_PART_UNSUPPORTED, ADAPTER_MODULE_UNKNOWN, ADAPTER_MODULE_AMBIGUOUS,
 * SAFETENSORS_DTYPE_UNSUPPORTED
 */
export function planCheckpoint(
  config: PeftConfig,
  entries: ReadonlyMap<string, TensorEntry>,
  target: PlanTarget,
): CheckpointPlan {
  const groups = groupByModule(entries);
  if (groups.length === 0) {
    throw new PapillonError(
      'ADAPTER_EMPTY',
      'The weights file holds no adapter parameters: it would answer like the base.',
    );
  }
  checkTargets(config, groups);
  const byName = new Map(target.modules.map((module) => [module.name, module]));
  const names = groups.map(({ name }) => name);
  const matched = matchModules(names, [...byName.keys()], target.nameMap);
  const plans = groups.flatMap((group): ModulePlan[] => {
    const base = byName.get(matched.get(group.name) ?? '');
    return base === undefined ? [] : [planModule(config, group, base, target.labels?.length ?? null)];
  });
  const bytes = plans.reduce((sum, plan) => sum + operandBytes(plan), 0);
  const stacking = plans.find(({ rotation }) => rotation?.side === 'input')?.rotation?.stacking ?? 'left';
  const labels = labelsOf(plans, target.labels, isHeadTask(config));
  return { kind: config.peft_type, modules: plans, stacking, labels, bytes };
}

function groupByModule(entries: ReadonlyMap<string, TensorEntry>): ModuleTensors[] {
  const groups = new Map<string, Map<string, TensorEntry>>();
  for (const [key, entry] of entries) {
    if (!key.startsWith(KEY_PREFIX)) {
      throw unknownTensor(key, `PEFT's keys begin with "${KEY_PREFIX}" and it would ignore this one`);
    }
    const path = key.slice(KEY_PREFIX.length);
    if (isWrapperCopy(path, entries)) continue;
    const match = PARAMETER.exec(path);
    if (match === null) throw unknownTensor(key, 'it is no parameter of a BOFT or OFT adapter');
    const [, module = '', parameter = ''] = match;
    const tensors = groups.get(module) ?? new Map<string, TensorEntry>();
    groups.set(module, tensors.set(parameter, entry));
  }
  return [...groups].map(([name, tensors]) => ({ name, tensors }));
}

/**
 * `bias: all` also saves the insides of PEFT's modules_to_save wrapper: the base's own copy, and a duplicate of the
 * plain key that is in effect.
 */
function isWrapperCopy(path: string, entries: ReadonlyMap<string, TensorEntry>): boolean {
  if (path.includes('.original_module.')) return true;
  const plain = path.replace('.modules_to_save.', '.');
  return plain !== path && entries.has(KEY_PREFIX + plain);
}

/** PEFT refuses a list of targets of which none exists. Expressions (a string) are never run here. */
function checkTargets(config: PeftConfig, groups: readonly ModuleTensors[]): void {
  const targets = config.target_modules;
  if (!Array.isArray(targets) || targets.length === 0) return;
  const adapted = groups.filter(({ tensors }) => [...tensors.keys()].some((key) => ADAPTED.test(key)));
  const known = new Set(targets);
  const isTarget = (name: string): boolean => {
    for (let start = 0; ; start = name.indexOf('.', start) + 1) {
      if (known.has(name.slice(start))) return true;
      if (!name.includes('.', start)) return false;
    }
  };
  const [first] = adapted;
  if (first !== undefined && !adapted.some(({ name }) => isTarget(name))) {
    throw new PapillonError(
      'ADAPTER_CONFIG_CONFLICT',
      `None of the adapted modules ("${first.name}", …) is in target_modules of adapter_config.json.`,
    );
  }
}

function planModule(
  config: PeftConfig,
  group: ModuleTensors,
  base: ModuleShape,
  labelCount: number | null,
): ModulePlan {
  const { name, tensors } = group;
  const adapted = [...tensors.keys()].some((key) => ADAPTED.test(key));
  const own = adapted ? 'base_layer.' : '';
  for (const plain of ['weight', 'bias']) {
    const stray = tensors.get(plain);
    if (adapted && stray !== undefined) {
      throw unknownTensor(
        stray.name,
        `PEFT would read "${name}.base_layer.${plain}" for a module it rotates`,
      );
    }
  }
  checkParts(tensors, base);
  const bias = tensors.get(`${own}bias`) ?? null;
  const weight = tensors.get(`${own}weight`) ?? null;
  // A rotated module keeps its width.
  const isNewHead = !adapted && weight !== null && isHeadOfAnotherWidth(weight, base);
  const outFeatures = isNewHead ? checkHead(weight, bias, base, config, labelCount) : base.outFeatures;
  if (bias !== null) expectShape(bias, [outFeatures]);
  // An embedding's rows are as many as its table has; whether they are the base's is seen when they are read.
  const rows = base.kind === 'embedding' ? (weight?.shape[0] ?? 0) : outFeatures;
  if (weight !== null) expectShape(weight, [rows, base.inFeatures]);
  if (!adapted) return { base, rotation: null, scale: null, bias, weight };
  const { rotation, scale } =
    config.peft_type === 'BOFT' ? planBoft(config, group, base) : planOft(config, group, base);
  return { base, rotation, scale, bias, weight };
}

/** What adapters can change of the kinds of modules, by the names of the parameters. */
const CHANGEABLE: Readonly<
  Record<ModuleShape['kind'], { readonly parameters: RegExp; readonly what: string }>
> = {
  linear: {
    parameters: /^(?!oft_embedding_R)/,
    what: 'a linear module, whose input or result is rotated otherwise',
  },
  convolution: {
    parameters: /^(?!oft_embedding_R|(base_layer\.)?weight$)/,
    what: 'a convolution, whose weight cannot be replaced',
  },
  normalization: { parameters: /^bias$/, what: 'a normalization, of which only the bias can be replaced' },
  embedding: {
    parameters: /^(oft_embedding_R|base_layer)\.weight$/,
    what: 'an embedding, whose rows can be rotated by OFT but not replaced',
  },
};

function checkParts(tensors: ReadonlyMap<string, TensorEntry>, base: ModuleShape): void {
  const { parameters, what } = CHANGEABLE[base.kind];
  const refused = [...tensors].find(([parameter]) => !parameters.test(parameter));
  if (refused === undefined) return;
  throw new PapillonError('ADAPTER_PART_UNSUPPORTED', `Tensor "${refused[1].name}" is of ${what}.`);
}

function isHeadTask(config: PeftConfig): boolean {
  return HEAD_TASKS.has(config.task_type ?? '');
}

function isHeadOfAnotherWidth(weight: TensorEntry, base: ModuleShape): boolean {
  return base.isHead === true && weight.shape.length === 2 && weight.shape[0] !== base.outFeatures;
}

/**
 * A head of n' labels in place of the base's n. That it is meant, and not a file of another base, must be declared:
 * by that many labels in the folder's config.json, or by a task that trains a head.
 *
 * @returns n'
 */
function checkHead(
  weight: TensorEntry,
  bias: TensorEntry | null,
  base: ModuleShape,
  config: PeftConfig,
  labelCount: number | null,
): number {
  const rows = weight.shape[0] ?? 0;
  const isDeclared = labelCount === null ? isHeadTask(config) : labelCount === rows;
  if (!isDeclared || rows === 0) {
    throw shapeMismatch(
      weight,
      `the base's module has ${base.outFeatures} outputs. A head of another width is served where the adapter ` +
        "brings its model's config.json with id2label of that size, or has a task_type of classification",
    );
  }
  if (bias === null && base.hasBias === true) {
    throw new PapillonError(
      'ADAPTER_TENSOR_MISSING',
      `Tensor "${weight.name}" makes a head of ${rows} outputs, but the adapter has no bias of that size for it.`,
    );
  }
  return rows;
}

function operandBytes({ rotation, scale, bias, weight }: ModulePlan): number {
  const tensors = [scale, bias, weight].map((entry) => entry?.shape.reduce((size, n) => size * n, 1) ?? 0);
  const blocks = rotation === null ? 0 : rotation.width * rotation.blockSize;
  return 4 * tensors.reduce((sum, size) => sum + size, blocks);
}

function unknownTensor(key: string, why: string): PapillonError {
  return new PapillonError('ADAPTER_TENSOR_UNKNOWN', `Tensor "${key}" cannot be explained: ${why}.`);
}
