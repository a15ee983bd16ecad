/**
 * Owns which text inputs a graph has, and the tensors of one text for them.
 */
import { PapillonError } from '../errors.js';
import type { Tensor, TensorMap, TensorSpec } from '../types.js';

const TEXT_INPUTS = ['input_ids', 'attention_mask', 'token_type_ids', 'position_ids'] as const;
type TextInput = (typeof TEXT_INPUTS)[number];

interface PlannedInput {
  readonly name: TextInput;
  readonly datatype: 'INT64' | 'INT32';
}

/** What a graph wants to be fed for a text. */
export interface TextInputPlan {
  readonly inputs: readonly PlannedInput[];
  /** Tokens the graph always takes (shorter texts are padded), or null where its length is variable. */
  readonly fixedTokens: number | null;
}

/** The tokens of one text. */
export interface TextTokens {
  readonly ids: Int32Array;
  readonly typeIds: Int32Array;
}

function isTextInput(name: string): name is TextInput {
  return (TEXT_INPUTS as readonly string[]).includes(name);
}

function unsupported(message: string): PapillonError {
  return new PapillonError('UNSUPPORTED', message);
}

function planInput({ name, datatype, dims }: TensorSpec): PlannedInput {
  if (!isTextInput(name)) throw unsupported(`the model's input ${name} cannot be made from text`);
  if (datatype !== 'INT64' && datatype !== 'INT32') {
    throw unsupported(`the model's input ${name} is ${datatype}; INT64 or INT32 is supported`);
  }
  const rows = dims[0];
  if (dims.length !== 2 || (typeof rows === 'number' && rows !== 1)) {
    throw unsupported(`the model's input ${name} is not of shape [batch, sequence]`);
  }
  return { name, datatype };
}

/** Throws UNSUPPORTED where the graph's inputs cannot all be made from a text. */
export function planTextInputs(specs: readonly TensorSpec[]): TextInputPlan {
  const inputs = specs.map(planInput);
  if (!inputs.some((input) => input.name === 'input_ids'))
    throw unsupported('the model has no input input_ids');
  const fixed = new Set(specs.map((spec) => spec.dims[1]).filter((dim) => typeof dim === 'number'));
  if (fixed.size > 1) throw unsupported("the model's inputs have different fixed sequence lengths");
  if (fixed.size === 1 && !inputs.some((input) => input.name === 'attention_mask')) {
    throw unsupported(
      'the model has a fixed sequence length but no attention_mask, so texts cannot be padded',
    );
  }
  return { inputs, fixedTokens: [...fixed][0] ?? null };
}

/** One row of `length` integers: `values`, then `padding`. */
function row(
  datatype: 'INT64' | 'INT32',
  length: number,
  values: Int32Array | number,
  used: number,
  padding: number,
): Tensor {
  const data = datatype === 'INT64' ? new BigInt64Array(length) : new Int32Array(length);
  const words = new Int32Array(data.buffer);
  // Writing 32-bit words makes no BigInt per token. ONNX Runtime runs on little-endian machines only; the
  // high word of a non-negative value is 0.
  const stride = datatype === 'INT64' ? 2 : 1;
  for (let i = 0; i < length; i++) {
    const value = typeof values === 'number' ? values : (values[i] ?? padding);
    words[i * stride] = i < used ? value : padding;
  }
  return { datatype, shape: [1, length], data };
}

/** The tensors [1, n] of one text, n = its tokens or `plan.fixedTokens`. Each has a buffer of its own. */
export function buildTextInputs(plan: TextInputPlan, tokens: TextTokens, padTokenId: number): TensorMap {
  const used = tokens.ids.length;
  const length = plan.fixedTokens ?? used;
  const tensors = new Map<string, Tensor>();
  for (const { name, datatype } of plan.inputs) {
    if (name === 'input_ids') tensors.set(name, row(datatype, length, tokens.ids, used, padTokenId));
    else if (name === 'attention_mask') tensors.set(name, row(datatype, length, 1, used, 0));
    else if (name === 'token_type_ids') tensors.set(name, row(datatype, length, tokens.typeIds, used, 0));
    else
      tensors.set(
        name,
        row(
          datatype,
          length,
          Int32Array.from({ length }, (_, i) => i),
          length,
          0,
        ),
      );
  }
  return tensors;
}
