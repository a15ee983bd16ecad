// Adds ONNX Runtime's CUDA provider to an installed onnxruntime-node: npm run setup:cuda
// The libraries are too large for the npm registry. onnxruntime-node has an install step that fetches them from
// NuGet; this project installs without such steps (.npmrc), so it is run here, on purpose. See docs/cuda.md.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const root = findPackage();
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

if (process.platform !== 'linux' || process.arch !== 'x64') {
  fail(
    `onnxruntime-node ${version} has a CUDA provider for Linux on x64 only, not ${process.platform} ${process.arch}.`,
  );
}

const { status } = spawnSync(process.execPath, [join(root, 'script', 'install.js')], {
  stdio: 'inherit',
  env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'cuda12' },
});
const library = join(root, 'bin', 'napi-v6', 'linux', 'x64', 'libonnxruntime_providers_cuda.so');
if (status !== 0 || !existsSync(library)) {
  fail(
    'The CUDA provider was not installed. The step needs to reach api.nuget.org; ' +
      'behind a proxy set GLOBAL_AGENT_HTTPS_PROXY.',
  );
}
console.log(`onnxruntime-node ${version} now has its CUDA 12 provider. Serve with --provider cuda.`);

/** The package's folder: its entry point lies somewhere below it. */
function findPackage() {
  let folder;
  try {
    folder = dirname(require.resolve('onnxruntime-node'));
  } catch {
    fail('onnxruntime-node is not installed: run npm ci first.');
  }
  while (!existsSync(join(folder, 'script', 'install.js'))) {
    const parent = dirname(folder);
    if (parent === folder) fail('This version of onnxruntime-node has no install step for CUDA.');
    folder = parent;
  }
  return folder;
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
