/**
 * Owns what a model folder's `config.json` and `tokenizer_config.json` say about classification: labels,
 * activation, longest input, padding token.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { PapillonError } from '../errors.js';
import type { Activation } from './scores.js';
import type { TruncationLimit } from './tokenizer-messages.js';

export interface ClassifierConfig {
  /** `id2label`; may have gaps, or be empty. */
  readonly labels: ReadonlyMap<number, string>;
  /** `problem_type`, or null: then one label is a sigmoid's, several are a softmax's. */
  readonly activation: Activation | null;
  /** Classes of the model, `BertForSequenceClassification`; empty if not told. */
  readonly architectures: readonly string[];
  /** Longest input in tokens that the model can take; null if not told. */
  readonly maxTokens: number | null;
  readonly truncationSide: TruncationLimit['side'];
  readonly padTokenId: number;
}

const count = z.number().int().positive();

const modelSchema = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  id2label: z.record(z.string(), z.string()).nullish(),
  max_position_embeddings: count.nullish(),
  model_type: z.string().nullish(),
  n_positions: count.nullish(),
  pad_token_id: z.number().int().nullish(),
  problem_type: z.string().nullish(),
});

const tokenizerSchema = z.looseObject({
  // transformers writes 1e30 for "no limit".
  model_max_length: z.number().positive().nullish(),
  truncation_side: z.enum(['left', 'right']).nullish(),
});

/** Models whose positions start behind the padding token's id, so that fewer of them are left for tokens. */
const OFFSET_POSITIONS = new Set([
  'camembert',
  'data2vec-text',
  'ibert',
  'longformer',
  'mpnet',
  'roberta',
  'roberta-prelayernorm',
  'xlm-roberta',
  'xlm-roberta-xl',
]);

const ACTIVATIONS = new Map<string, Activation>([
  ['single_label_classification', 'softmax'],
  ['multi_label_classification', 'sigmoid'],
  ['regression', 'none'],
]);

/** Checked contents of a JSON file; an absent one counts as empty. Throws UNSUPPORTED naming file and field. */
async function readChecked<T>(folder: string, name: string, schema: z.ZodType<T>): Promise<T> {
  let value: unknown = {};
  try {
    value = JSON.parse(await readFile(join(folder, name), 'utf8'));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : null;
    if (code !== 'ENOENT') {
      const reason = code === null ? 'is not valid JSON' : `cannot be read (${code})`;
      throw new PapillonError('UNSUPPORTED', `${name} ${reason}`, { cause: error });
    }
  }
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const field = checked.error.issues[0]?.path.join('.') ?? '';
  const what = field === '' ? 'is not a JSON object' : `has an unexpected value in ${field}`;
  throw new PapillonError('UNSUPPORTED', `${name} ${what}`);
}

function maxPositions(config: z.infer<typeof modelSchema>): number | null {
  const positions = config.max_position_embeddings ?? config.n_positions ?? null;
  if (positions === null || !OFFSET_POSITIONS.has(config.model_type ?? '')) return positions;
  return positions - (config.pad_token_id ?? 1) - 1;
}

/** Both files are optional. Throws UNSUPPORTED for a file that is there and cannot be used. */
export async function readClassifierConfig(folder: string): Promise<ClassifierConfig> {
  const [model, tokenizer] = await Promise.all([
    readChecked(folder, 'config.json', modelSchema),
    readChecked(folder, 'tokenizer_config.json', tokenizerSchema),
  ]);
  const limits = [maxPositions(model), tokenizer.model_max_length].filter((limit) => limit != null);
  const maxTokens = Math.min(...limits);
  return {
    labels: new Map(Object.entries(model.id2label ?? {}).map(([id, label]) => [Number(id), label])),
    activation: ACTIVATIONS.get(model.problem_type ?? '') ?? null,
    architectures: model.architectures ?? [],
    maxTokens: Number.isSafeInteger(maxTokens) && maxTokens > 0 ? maxTokens : null,
    truncationSide: tokenizer.truncation_side ?? 'right',
    padTokenId: model.pad_token_id ?? 0,
  };
}
