/** The OpenAI-compatible surface: pure decode and encode, no HTTP. */
export { encodeModelList } from './models.js';
export type { ModelEntry, ModelList } from './models.js';
export { encodeOpenAiError } from './errors.js';
export type { OpenAiErrorBody } from './errors.js';
export {
  MAX_CLASSIFY_CHARACTERS,
  MAX_CLASSIFY_INPUTS,
  decodeClassifyRequest,
  encodeClassifyResponse,
} from './classify.js';
export type { ClassifyRequest, ClassifyResponse, LabelScore } from './classify.js';
