/** The labels of a head that an adapter brings, from the config.json of the model it was trained in. */
import { z } from 'zod';
import { PapillonError } from '../errors.js';
import { MODEL_CONFIG_FILE } from './adapter-files.js';
import type { ModuleShape } from './rotation-plan.js';
import type { TensorEntry } from './safetensors-header.js';

/** A module that an adapter changes, with the weight that it brings. */
export interface ReplacedWeight {
  readonly base: ModuleShape;
  readonly weight: TensorEntry | null;
}

const schema = z.object({
  id2label: z.record(z.string(), z.string()).nullish(),
  num_labels: z.number().int().positive().nullish(),
});

/**
 * The labels by class, as transformers writes them; `num_labels` alone gives its default names. Null where neither is
 * told.
 *
 * @throws PapillonError ADAPTER_CONFIG_INVALID
 */
export function parseLabels(text: string): readonly string[] | null {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new PapillonError('ADAPTER_CONFIG_INVALID', `${MODEL_CONFIG_FILE} is not valid JSON.`, { cause });
  }
  const checked = schema.safeParse(json);
  if (!checked.success) {
    const field = checked.error.issues[0]?.path.join('.') ?? '';
    throw new PapillonError(
      'ADAPTER_CONFIG_INVALID',
      `${MODEL_CONFIG_FILE} is wrong at ${field === '' ? 'its top level' : `"${field}"`}.`,
    );
  }
  const { id2label, num_labels: count } = checked.data;
  if (!id2label) return count ? defaultLabels(count) : null;
  const size = Object.keys(id2label).length;
  const labels = Array.from({ length: size }, (_, id) => id2label[String(id)]);
  if (size > 0 && labels.every((label) => label !== undefined)) return labels;
  throw new PapillonError(
    'ADAPTER_CONFIG_INVALID',
    `id2label in ${MODEL_CONFIG_FILE} must number labels from 0.`,
  );
}

/**
 * What to call the classes of an adapter: the declared labels where it brings a head of that many; transformers'
 * default names for an own head of another width than the base's; else null, the base's.
 *
 * @param isHeadTask whether the adapter's task trains a head for its own labels.
 * @throws PapillonError ADAPTER_CONFIG_CONFLICT where such a head has another number of classes than declared
 */
export function labelsOf(
  plans: readonly ReplacedWeight[],
  declared: readonly string[] | null,
  isHeadTask: boolean,
): readonly string[] | null {
  const heads = plans.flatMap(({ base, weight }) =>
    base.isHead === true && weight !== null ? [{ base, weight }] : [],
  );
  const [first] = heads;
  if (first === undefined) return null;
  if (declared !== null && heads.some(({ weight }) => weight.shape[0] === declared.length)) return declared;
  if (declared !== null && isHeadTask) {
    throw new PapillonError(
      'ADAPTER_CONFIG_CONFLICT',
      `Tensor "${first.weight.name}" is a head of ${first.weight.shape[0] ?? 0} classes, but ${MODEL_CONFIG_FILE} ` +
        `names ${declared.length} labels.`,
    );
  }
  const other = heads.find(({ base, weight }) => weight.shape[0] !== base.outFeatures);
  return other === undefined ? null : defaultLabels(other.weight.shape[0] ?? 0);
}

function defaultLabels(count: number): readonly string[] {
  return Array.from({ length: count }, (_, id) => `LABEL_${id}`);
}
