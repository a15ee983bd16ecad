/** The examples run, each against a server on the demo. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startDemo } from './support/demo-server.js';
import type { DemoServer } from './support/demo-server.js';
import { run } from './support/shell.js';

describe('examples', () => {
  let server: DemoServer;
  before(async () => {
    server = await startDemo();
  });
  after(async () => {
    await server.stop();
  });

  const example = async (command: string, ...args: string[]): Promise<string> => {
    const options = { cwd: server.folder, env: { PAPILLON_URL: server.url } };
    const { code, stdout, stderr } = await run(command, args, options);
    assert.equal(code, 0, stderr);
    return stdout;
  };

  test('classify.sh asks the base and two tenants', async () => {
    const lines = (await example('sh', 'examples/classify.sh')).trim().split('\n');
    assert.deepEqual(
      lines.map((line) => line.split(/\s+/)),
      [
        ['demo-router', 'cancellation'],
        ['globex-cloud', 'sales'],
        ['meadow-pharmacy', 'shipping'],
      ],
    );
  });

  test('classify.sh shows what the server says is wrong', async () => {
    const shown = await example('sh', 'examples/classify.sh', 'a "quoted" \\ text', 'nobody');
    assert.match(shown, /^nobody .*UNKNOWN_MODEL/);
  });

  test('client.py asks every adapter', async () => {
    const shown = await example('python3', 'examples/client.py', server.url);
    assert.match(shown, /^demo-router: billing, cancellation$/m);
    assert.match(shown, /^acme-retail@[0-9a-f]+: shipping, cancellation$/m);
    assert.match(shown, /^logits \[1, 8\]$/m);
    assert.match(shown, /^404: .*nobody/m);
  });

  test('infer-binary.mjs gets scores for two rows', async () => {
    const shown = await example(process.execPath, 'examples/infer-binary.mjs', server.url);
    assert.match(shown, /^logits \[ 2, 8 \]/);
  });
});
