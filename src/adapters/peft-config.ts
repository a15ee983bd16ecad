/** Reads PEFT's adapter_config.json: only what serving needs, everything else is ignored. */
import { z } from 'zod';
import { PapillonError } from '../errors.js';

const size = z.number().int().nonnegative();

const common = {
  bias: z.string().nullish(),
  fan_in_fan_out: z.boolean().nullish(),
  modules_to_save: z.array(z.string()).nullish(),
  peft_version: z.string().nullish(),
  task_type: z.string().nullish(),
  target_modules: z.union([z.string(), z.array(z.string())]).nullish(),
};

const boftSchema = z.object({
  ...common,
  peft_type: z.literal('BOFT'),
  boft_block_size: size.optional(),
  boft_block_num: size.optional(),
});

const oftSchema = z.object({
  ...common,
  peft_type: z.literal('OFT'),
  r: size.optional(),
  oft_block_size: size.optional(),
  block_share: z.boolean().default(false),
  coft: z.boolean().default(false),
  eps: z.number().positive().default(6e-5),
  use_cayley_neumann: z.boolean().optional(),
  num_cayley_neumann_terms: z.number().int().min(1).max(64).default(5),
});

const typeSchema = z.object({ peft_type: z.string() });

export type BoftConfig = Readonly<z.infer<typeof boftSchema>>;
export type OftConfig = Readonly<z.infer<typeof oftSchema>>;
export type PeftConfig = BoftConfig | OftConfig;

/**
 * Reads and checks the text of an adapter_config.json.
 *
 * @throws PapillonError ADAPTER_CONFIG_INVALID, ADAPTER_TYPE_UNSUPPORTED
 */
export function parsePeftConfig(text: string): PeftConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new PapillonError('ADAPTER_CONFIG_INVALID', 'adapter_config.json is not valid JSON.', { cause });
  }
  const { peft_type: type } = check(typeSchema, json);
  if (type === 'OFT') return check(oftSchema, json);
  if (type !== 'BOFT') {
    throw new PapillonError(
      'ADAPTER_TYPE_UNSUPPORTED',
      `adapter_config.json has peft_type "${type.slice(0, 64)}"; supported are BOFT and OFT.`,
    );
  }
  const config = check(boftSchema, json);
  const { boft_block_size: blockSize, boft_block_num: blockNum } = config;
  // Absent fields have PEFT's defaults (4 and 0), which are valid together.
  if (blockSize !== undefined && blockNum !== undefined && blockSize > 0 === blockNum > 0) {
    throw new PapillonError(
      'ADAPTER_CONFIG_INVALID',
      `adapter_config.json has boft_block_size ${blockSize} and boft_block_num ${blockNum}; ` +
        'PEFT wants exactly one of them to be other than 0.',
    );
  }
  return config;
}

function check<T>(schema: z.ZodType<T>, json: unknown): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const { path = [], message = 'it does not fit' } = result.error.issues[0] ?? {};
  const field = path.length === 0 ? 'its top level' : `"${path.join('.')}"`;
  throw new PapillonError('ADAPTER_CONFIG_INVALID', `adapter_config.json is wrong at ${field}: ${message}.`);
}
