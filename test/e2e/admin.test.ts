import assert from 'node:assert/strict';
import { join } from 'node:path';
import { renameSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { adapterEntry, request, tryInfer } from './client.js';
import { exampleOf, isClose } from './demo.js';
import type { RunningServer } from './server.js';
import { until } from './until.js';
import { Workspace } from './workspace.js';

const TOKEN = 'a-token-for-tests';
const [ONE, TWO] = ['acme-retail', 'globex-cloud'] as const;

interface Failure {
  readonly error: { readonly code: string; readonly message: string };
}

const CHANGES: readonly (readonly [method: string, path: string, body?: object])[] = [
  ['PUT', `/v1/adapters/${ONE}`],
  ['PATCH', `/v1/adapters/${ONE}`, { pinned: true }],
  ['DELETE', `/v1/adapters/${ONE}`],
  ['POST', '/v1/load_lora_adapter', { lora_name: ONE }],
  ['POST', '/v1/unload_lora_adapter', { lora_name: ONE }],
  ['POST', `/v2/repository/models/${ONE}/load`],
  ['POST', `/v2/repository/models/${ONE}/unload`],
];

describe('changes over HTTP', () => {
  const workspace = new Workspace([ONE]);
  let closed: RunningServer;
  let open: RunningServer;
  before(async () => {
    closed = await workspace.start();
    open = await workspace.start({ flags: ['--admin-token', TOKEN] });
  });
  after(() => workspace.close());

  async function serves(model: string, like: string): Promise<boolean> {
    const { input_ids: ids, logits } = exampleOf(like);
    const answer = await tryInfer(open.url, { model, rows: [ids] });
    return isClose(answer.logits[0] ?? [], logits);
  }

  const put = (id: string, body?: object) =>
    request<Failure & { version: string }>(open.url, 'PUT', `/v1/adapters/${encodeURIComponent(id)}`, {
      token: TOKEN,
      body,
    });

  for (const [method, path, body] of CHANGES) {
    test(`${method} ${path}: 403 without a configured token, 401 without the right one`, async () => {
      assert.equal((await request(closed.url, method, path, { body, token: TOKEN })).status, 403);
      assert.equal((await request(open.url, method, path, { body })).status, 401);
      const wrong = await request(open.url, method, path, { body, token: `${TOKEN}x` });
      assert.equal(wrong.status, 401);
      assert.equal(wrong.headers.get('www-authenticate'), 'Bearer');
      assert.equal((await adapterEntry(open.url, ONE))?.state, 'available');
    });
  }

  test('PUT loads what the folder holds now, without waiting to be noticed', async () => {
    assert.equal((await put(ONE)).status, 200);
    assert.ok(await serves(ONE, ONE));
    const before = await adapterEntry(open.url, ONE);
    assert.equal(before?.state, 'ready');
    workspace.install(workspace.stage(TWO), 'rolled-out');
    const created = await put('rolled-out');
    // 201, or 200 where the watcher was faster.
    assert.ok([200, 201].includes(created.status));
    assert.ok(await serves('rolled-out', TWO));
    workspace.install(workspace.stage(ONE), 'rolled-out');
    const { status, body } = await put('rolled-out');
    assert.equal(status, 200);
    assert.ok(await serves('rolled-out', ONE));
    assert.equal(body.version, before.version);
  });

  test('PUT registers a folder of another name; nothing outside the adapters directory', async () => {
    renameSync(workspace.stage(TWO), join(workspace.adapters, '.prepared'));
    assert.equal((await put('alias', { source: '.prepared' })).status, 201);
    assert.ok(await serves('alias', TWO));
    for (const source of [
      '../adapters/.prepared',
      '/etc',
      join(workspace.adapters, ONE),
      '.prepared/../..',
    ]) {
      const { status, body } = await put('thief', { source });
      assert.equal(status, 422);
      assert.equal(body.error.code, 'ADAPTER_PATH_ESCAPES');
    }
    assert.equal((await put('nobody')).status, 404);
    assert.equal((await put(`demo-router`)).body.error.code, 'ADAPTER_NAME_INVALID');
    assert.equal(await adapterEntry(open.url, 'thief'), undefined);
  });

  test('PATCH pins, which loads', async () => {
    workspace.install(workspace.stage(TWO), 'pinned');
    await until('it is catalogued', () => adapterEntry(open.url, 'pinned'));
    const patch = (body: object) =>
      request<Failure & { pinned: boolean }>(open.url, 'PATCH', '/v1/adapters/pinned', {
        token: TOKEN,
        body,
      });
    const { status, body } = await patch({ pinned: true });
    assert.equal(status, 200);
    assert.equal(body.pinned, true);
    await until(
      'it is loaded',
      async () => (await adapterEntry(open.url, 'pinned'))?.state === 'ready' || undefined,
    );
    for (const wrong of [{}, { pinned: 1 }, { mode: 'fast' }, { colour: 'red' }]) {
      assert.equal((await patch(wrong)).status, 400);
    }
    assert.equal((await patch({ pinned: false })).body.pinned, false);
  });

  test('DELETE takes out of service, PUT brings back', async () => {
    const remove = (id: string) => request(open.url, 'DELETE', `/v1/adapters/${id}`, { token: TOKEN });
    assert.equal((await remove(ONE)).status, 200);
    const gone = await tryInfer(open.url, { model: ONE, rows: [[2, 3]] });
    assert.equal(gone.status, 404);
    assert.match(gone.error ?? '', new RegExp(ONE));
    assert.equal((await adapterEntry(open.url, ONE))?.state, 'unloaded');
    // Its folder changes: it stays out of service all the same.
    workspace.install(workspace.stage(TWO), ONE);
    workspace.install(workspace.stage(TWO), 'marker');
    await until('the changes were noticed', () => adapterEntry(open.url, 'marker'));
    assert.equal((await tryInfer(open.url, { model: ONE, rows: [[2, 3]] })).status, 404);
    assert.equal((await put(ONE)).status, 200);
    assert.ok(await serves(ONE, TWO));
    assert.equal((await remove('nobody')).status, 404);
  });

  test('the routes of other servers do the same', async () => {
    workspace.install(workspace.stage(ONE), 'other-names');
    const post = (path: string, body?: object) =>
      fetch(`${open.url}${path}`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${TOKEN}`, 'Content-Type': 'application/json' },
        ...(body && { body: JSON.stringify(body) }),
      });
    const load = { lora_name: 'other-names', lora_path: 'other-names', load_inplace: true };
    assert.equal((await post('/v1/load_lora_adapter', load)).status, 200);
    assert.ok(await serves('other-names', ONE));
    assert.equal((await post('/v1/unload_lora_adapter', { lora_name: 'other-names' })).status, 200);
    assert.ok(!(await serves('other-names', ONE)));
    assert.equal((await post('/v2/repository/models/other-names/load')).status, 200);
    assert.ok(await serves('other-names', ONE));
    // As KServe's agent does: the files go first.
    workspace.remove('other-names');
    await until('it is gone', async () => ((await adapterEntry(open.url, 'other-names')) ? undefined : true));
    assert.equal((await post('/v2/repository/models/other-names/unload')).status, 200);
    assert.equal((await post('/v1/unload_lora_adapter', { lora_name: 'other-names' })).status, 200);
  });
});
