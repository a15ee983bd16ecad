/** The Open Inference Protocol v2 with its binary, repository and statistics extensions: no HTTP in here. */
export { openInferRequest } from './envelope.js';
export type { InferEnvelope, InputHeader, RawInput, RequestedOutput } from './envelope.js';
export { chooseOutputs, decodeInputs } from './inputs.js';
export { encodeInferAnswer } from './response.js';
export type { EncodedAnswer, InferAnswer } from './response.js';
export { DEFAULT_LIMITS } from './limits.js';
export type { OpenInferenceLimits } from './limits.js';
export { field, isJsonObject, parseJson } from './json.js';
export type { JsonObject, JsonValue } from './json.js';
export { quote } from './text.js';
export { fromHalfBits, toHalfBits } from './float16.js';
export {
  encodeError,
  encodeModelMetadata,
  encodeRepositoryIndex,
  encodeServerMetadata,
  encodeStatistics,
  EXTENSIONS,
  isServable,
} from './metadata.js';
export type { RepositoryEntry } from './metadata.js';
