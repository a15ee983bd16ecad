/**
 * PEFT checkpoints of orthogonal adapters: what may be read of them, the registry of versions and leases, and the
 * cache of resident operands. Imports only math, errors and types.
 */
export { composeOperands, type ComposedPart } from './compose.js';
export { inspectAdapter, loadAdapter, type LoadContext, type LoadedAdapter } from './load-adapter.js';
export { AdapterLoader } from './loader.js';
export { resolveAdaptersDirectory } from './directory.js';
export { AdapterRegistry, type RegistryOptions } from './registry.js';
export { NoAdapters } from './no-adapters.js';
export { readCheckpoint, type CheckpointSummary } from './read-checkpoint.js';
