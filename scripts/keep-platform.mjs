// Deletes the parts of onnxruntime-node that are for other platforms than this one: some 250 MB in an image.
import { readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';

const main = createRequire(import.meta.url).resolve('onnxruntime-node');
const binaries = join(dirname(main), '..', 'bin', 'napi-v6');
for (const platform of readdirSync(binaries)) {
  for (const arch of readdirSync(join(binaries, platform))) {
    if (platform === process.platform && arch === process.arch) continue;
    rmSync(join(binaries, platform, arch), { recursive: true });
    console.log(`removed onnxruntime-node for ${platform} ${arch}`);
  }
}
