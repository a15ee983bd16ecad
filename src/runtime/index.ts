/** ONNX Runtime behind the Executor interface: the only folder that imports onnxruntime-node. */
export { OnnxExecutor, type ExecutorOptions } from './executor.js';
export { locateModel, type ModelLocation } from './model-folder.js';
export type { Provider, SessionSettings } from './session.js';
