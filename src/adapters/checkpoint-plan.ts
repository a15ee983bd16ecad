/**
 * From a checkpoint's header to what each base module gets: names the parameters, finds their modules and checks
 * every shape, before any value is read. Parameters are the ground truth; the configuration is only checked.
 */
import { PapillonError } from '../errors.js';
import { planBoft } from './boft.js';
import { matchModules } from './match-modules.js';
import { planOft } from './oft.js';
import type { PeftConfig } from './peft-config.js';
import {
  expectShape,
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
  /** Most bytes that its operands can take, float32. */
  readonly bytes: number;
}

const KEY_PREFIX = 'base_model.model.';
const PARAMETER =
  /^(.+?)\.(boft_[RsP]|oft_R\.weight|oft_[rs]|oft_embedding_R\.weight|base_layer\.(?:weight|bias)|weight|bias)$/;
/** Parameters that only a module rotated by PEFT has. */
const ADAPTED = /^(boft_|oft_|base_layer\.)/;

/**
 * @param entries the safetensors header.
 * @param modules the base's.
 * @param nameMap PEFT module name → base module name, where the model folder says so.
 * @throws PapillonError ADAPTER_EMPTY, ADAPTER_TENSOR_UNKNOWN, ADAPTER_TENSOR_MISSING, ADAPTER_SHAPE_MISMATCH,
 * ADAPTER_CONFIG_CONFLICT, ADAPTER_PART_UNSUPPORTED, ADAPTER_MODULE_UNKNOWN, ADAPTER_MODULE_AMBIGUOUS,
 * SAFETENSORS_DTYPE_UNSUPPORTED
 */
export function planCheckpoint(
  config: PeftConfig,
  entries: ReadonlyMap<string, TensorEntry>,
  modules: readonly ModuleShape[],
  nameMap?: ReadonlyMap<string, string>,
): CheckpointPlan {
  const groups = groupByModule(entries);
  if (groups.length === 0) {
    throw new PapillonError(
      'ADAPTER_EMPTY',
      'The weights file holds no adapter parameters: it would answer like the base.',
    );
  }
  checkTargets(config, groups);
  const byName = new Map(modules.map((module) => [module.name, module]));
  const names = groups.map(({ name }) => name);
  const matched = matchModules(names, [...byName.keys()], nameMap);
  const plans = groups.flatMap((group): ModulePlan[] => {
    const base = byName.get(matched.get(group.name) ?? '');
    return base === undefined ? [] : [planModule(config, group, base)];
  });
  const bytes = plans.reduce((sum, plan) => sum + operandBytes(plan), 0);
  const stacking = plans.find(({ rotation }) => rotation?.side === 'input')?.rotation?.stacking ?? 'left';
  return { kind: config.peft_type, modules: plans, stacking, bytes };
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
    if (parameter === 'oft_embedding_R.weight') {
      throw new PapillonError(
        'ADAPTER_PART_UNSUPPORTED',
        `Tensor "${key}" rotates an embedding; only linear modules can be rotated.`,
      );
    }
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
  const isTarget = (name: string) => targets.some((t) => name === t || name.endsWith(`.${t}`));
  const [first] = adapted;
  if (first !== undefined && !adapted.some(({ name }) => isTarget(name))) {
    throw new PapillonError(
      'ADAPTER_CONFIG_CONFLICT',
      `None of the adapted modules ("${first.name}", …) is in target_modules of adapter_config.json.`,
    );
  }
}

function planModule(config: PeftConfig, group: ModuleTensors, base: ModuleShape): ModulePlan {
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
  if (base.kind === 'normalization') {
    const refused = [...tensors].find(([key]) => key !== 'bias');
    if (refused !== undefined) {
      throw new PapillonError(
        'ADAPTER_PART_UNSUPPORTED',
        `Tensor "${refused[1].name}" changes a normalization, of which only the bias can be replaced.`,
      );
    }
  }
  const bias = tensors.get(`${own}bias`) ?? null;
  const weight = tensors.get(`${own}weight`) ?? null;
  if (weight !== null && base.kind === 'convolution') {
    throw new PapillonError(
      'ADAPTER_PART_UNSUPPORTED',
      `Tensor "${weight.name}" replaces a convolution's weight; only linear modules' weights can be replaced.`,
    );
  }
  if (bias !== null) expectShape(bias, [base.outFeatures]);
  if (weight !== null) expectShape(weight, [base.outFeatures, base.inFeatures]);
  if (!adapted) return { base, rotation: null, scale: null, bias, weight };
  const { rotation, scale } =
    config.peft_type === 'BOFT' ? planBoft(config, group, base) : planOft(config, group, base);
  return { base, rotation, scale, bias, weight };
}

function operandBytes({ base, rotation, scale, bias, weight }: ModulePlan): number {
  const vectors = (scale === null ? 0 : 1) + (bias === null ? 0 : 1);
  return (
    4 *
    ((rotation === null ? 0 : base.inFeatures * rotation.blockSize) +
      vectors * base.outFeatures +
      (weight === null ? 0 : base.inFeatures * base.outFeatures))
  );
}

function unknownTensor(key: string, why: string): PapillonError {
  return new PapillonError('ADAPTER_TENSOR_UNKNOWN', `Tensor "${key}" cannot be explained: ${why}.`);
}
