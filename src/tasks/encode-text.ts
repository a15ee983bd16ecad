/**
 * Owns how one text becomes token ids, truncation included. Runs in the tokenizer's thread.
 */
import { PapillonError } from '../errors.js';
import type { TruncationLimit } from './tokenizer-messages.js';

/**
 * The part of `@huggingface/tokenizers` that we use. Its own declarations import each other without file
 * extensions, which TypeScript does not resolve in a Node ESM project.
 */
export interface TextTokenizer {
  encode(
    text: string,
    options: { readonly add_special_tokens?: boolean; readonly return_token_type_ids?: boolean },
  ): { readonly ids: readonly (number | undefined)[]; readonly token_type_ids?: readonly number[] };
}

export interface EncodedText {
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
  readonly truncated: boolean;
}

/** The offset at which `part` occurs in `whole`, which is `part` with special tokens around it. */
function offsetOf(part: readonly unknown[], whole: readonly unknown[]): number {
  for (let offset = 0; offset + part.length <= whole.length; offset++) {
    if (part.every((id, index) => whole[offset + index] === id)) return offset;
  }
  return -1;
}

/**
 * Token ids of one text with the tokenizer's special tokens. Beyond `limit.maxTokens` the text's own tokens
 * are cut at one end and the special tokens are kept, as Hugging Face's tokenizers truncate.
 * Throws INVALID_REQUEST for a text that has no tokens or cannot be spelled in the vocabulary,
 * SEQUENCE_TOO_LONG where nothing but special tokens would be left. The caller puts the text's position in
 * front of the message.
 */
export function encodeText(
  tokenizer: TextTokenizer,
  text: string,
  limit: TruncationLimit | null,
): EncodedText {
  const encoding = tokenizer.encode(text, { return_token_type_ids: true });
  const ids = encoding.ids.filter((id) => id !== undefined);
  if (ids.length < encoding.ids.length) {
    throw new PapillonError('INVALID_REQUEST', "holds characters outside the tokenizer's vocabulary");
  }
  if (ids.length === 0) {
    throw new PapillonError(
      'INVALID_REQUEST',
      'is empty once tokenised; give a text with at least one token',
    );
  }
  // Tokenizers without a post-processor tell no types.
  const typeIds = encoding.token_type_ids ?? ids.map(() => 0);
  if (limit === null || ids.length <= limit.maxTokens) return { ids, typeIds, truncated: false };

  const own = tokenizer.encode(text, { add_special_tokens: false }).ids;
  const start = offsetOf(own, ids);
  const kept = limit.maxTokens - (ids.length - own.length);
  if (start < 0 || kept < 1) {
    throw new PapillonError(
      'SEQUENCE_TOO_LONG',
      `has ${ids.length} tokens, the model takes ${limit.maxTokens}, and it cannot be cut; shorten the text`,
    );
  }
  const cutFrom = limit.side === 'right' ? start + kept : start;
  const cutTo = cutFrom + own.length - kept;
  const cut = (values: readonly number[]) => [...values.slice(0, cutFrom), ...values.slice(cutTo)];
  return { ids: cut(ids), typeIds: cut(typeIds), truncated: true };
}
