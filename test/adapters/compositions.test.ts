/** Several adapters in one request: how they are chosen, loaded once, cached, replaced and refused. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { composeOperands, loadAdapter } from '#dist/adapters/index.js';
import { at } from '../support/at.js';
import { BYTES, openRegistry, touch, write } from './registry-support.js';
import { boftTensors, loadContext, queryTensors, refusal, writeAdapter } from './support.js';

const writeAll =
  (...names: readonly string[]) =>
  (root: string) => {
    names.forEach((name, i) => {
      write(name, i + 1)(root);
    });
  };
const bias = (value: number) => ({
  'base_model.model.encoder.query.base_layer.bias': { shape: [6], values: Array<number>(6).fill(value) },
});

test('a composition is one version of its parts’ versions, and its operands are their product', async (t) => {
  const { root, registry, executor, observed } = await openRegistry(t, writeAll('a', 'b'));
  const [a, b] = [await touch(registry, 'a'), await touch(registry, 'b')];
  assert.deepEqual(registry.resolve('a+b'), {
    id: 'a+b',
    version: `${a}+${b}`,
    state: 'available',
    labels: null,
  });
  const lease = registry.lease('a+b');
  assert.equal(lease.id, 'a+b');
  assert.equal(lease.ready, false);
  await lease.whenReady();
  assert.equal(lease.version, `${a}+${b}`);
  assert.equal(lease.key, `a@${a}+b@${b}`);
  assert.equal(registry.resolve('a+b').state, 'ready');
  const parts = ['a', 'b'].map((name) => loadAdapter(loadContext(root), name));
  assert.deepEqual(executor.resident.get(lease.key)?.modules, composeOperands(parts));
  assert.deepEqual(observed.resident, { catalogued: 2, count: 3, bytes: 3 * BYTES });
  assert.equal(registry.info('a')?.requests, 2, 'a part counts as asked for');
  const again = registry.lease('a+b');
  assert.ok(again.ready);
  assert.equal(again.version, lease.version);
  lease.release();
  again.release();
  assert.notEqual(await touch(registry, 'b+a'), lease.version, 'another order is another version');
  assert.equal(registry.list().length, 2);
  assert.equal(registry.info('a+b'), undefined);
});

test('many requests for a composition share one load, which tells of the parts too', async (t) => {
  const { registry, executor, observed } = await openRegistry(t, writeAll('a', 'b'));
  assert.equal(registry.resolve('a+b').version, null);
  const leases = Array.from({ length: 20 }, () => registry.lease('a+b'));
  assert.equal(registry.resolve('a+b').state, 'loading');
  await Promise.all(leases.map((lease) => lease.whenReady()));
  assert.equal(executor.attaches, 1);
  assert.deepEqual(observed.loads, ['ok']);
  assert.equal(observed.misses, 20);
  const [a, b] = [registry.info('a'), registry.info('b')];
  assert.equal(at(leases).version, `${a?.version}+${b?.version}`);
  assert.equal(a?.state, 'available', 'by itself it is not resident');
  assert.equal(a.bytes, null);
  assert.ok((a.orthogonalityResidual ?? 1) < 1e-6);
  await touch(registry, 'a');
  assert.equal(registry.info('a')?.bytes, BYTES);
  for (const lease of leases) lease.release();
});

test('compositions are evicted by bytes like any other version', async (t) => {
  const { registry, executor, observed } = await openRegistry(t, writeAll('a', 'b'), {
    hostCacheBytes: 2 * BYTES,
  });
  const version = await touch(registry, 'a+b');
  await touch(registry, 'a');
  await touch(registry, 'b');
  assert.equal(observed.evicted, 1);
  assert.deepEqual(observed.resident, { catalogued: 2, count: 2, bytes: 2 * BYTES });
  assert.equal(registry.resolve('a+b').state, 'available');
  assert.equal(await touch(registry, 'a+b'), version);
  assert.equal(executor.resident.size, 2);
});

test('a replaced part: new requests get the new one, requests under way keep theirs', async (t) => {
  const { root, registry, executor } = await openRegistry(t, writeAll('a', 'b'));
  const old = registry.lease('a+b');
  await old.whenReady();
  const before = registry.info('b')?.version;
  await touch(registry, 'b+a');
  write('b', 9)(root);
  await registry.rescan();
  await registry.settled();
  const now = registry.info('b')?.version;
  assert.ok(now);
  assert.notEqual(now, before);
  const fresh = registry.lease('a+b');
  assert.ok(!fresh.ready);
  await fresh.whenReady();
  assert.equal(fresh.version, `${registry.info('a')?.version}+${now}`);
  assert.ok(old.ready && executor.resident.has(old.key), 'still in use');
  old.release();
  assert.deepEqual([...executor.resident.keys()].sort(), [fresh.key, `b@${now}`].sort());
  fresh.release();
  assert.ok(executor.resident.has(fresh.key));
});

test('a part that is removed or unloaded takes its compositions along', async (t) => {
  const { root, registry, executor } = await openRegistry(t, writeAll('a', 'b', 'c'));
  const lease = registry.lease('a+b');
  await lease.whenReady();
  await touch(registry, 'a+c');
  await registry.unload('b');
  assert.throws(() => registry.lease('a+b'), refusal('UNKNOWN_MODEL', '"b"'));
  assert.throws(() => registry.resolve('a+b'), refusal('UNKNOWN_MODEL', '"b"'));
  assert.equal(registry.resolve('b').state, 'unloaded');
  assert.ok(executor.resident.has(lease.key));
  lease.release();
  assert.ok(!executor.resident.has(lease.key));
  assert.equal(executor.resident.size, 1);
  rmSync(path.join(root, 'c'), { recursive: true });
  await registry.rescan();
  assert.equal(executor.resident.size, 0);
  assert.throws(() => registry.lease('a+c'), refusal('UNKNOWN_MODEL', '"c"'));
});

test('a part that is replaced while its composition is loaded: the new one is served', async (t) => {
  const { root, registry, executor } = await openRegistry(t, writeAll('a', 'b'));
  let letIn = (): void => undefined;
  const opened = new Promise<void>((resolve) => (letIn = resolve));
  const asked = new Promise<void>((resolve) => {
    executor.gate = (key) => {
      if (!key.includes('+')) return Promise.resolve();
      resolve();
      return opened;
    };
  });
  const lease = registry.lease('a+b');
  await asked;
  write('b', 9)(root);
  const { version } = await registry.load('b');
  letIn();
  await lease.whenReady();
  assert.equal(lease.version, `${registry.info('a')?.version}+${version}`);
  assert.equal(registry.info('b')?.version, version, 'the load that began before changes nothing back');
  assert.deepEqual([...executor.resident.keys()].sort(), [lease.key, `b@${version}`].sort());
  lease.release();
});

test('a part that is taken out of service while its composition is loaded: served once, and gone', async (t) => {
  const { registry, executor } = await openRegistry(t, writeAll('a', 'b'));
  let letIn = (): void => undefined;
  const opened = new Promise<void>((resolve) => (letIn = resolve));
  const asked = new Promise<void>((resolve) => {
    executor.gate = () => {
      resolve();
      return opened;
    };
  });
  const lease = registry.lease('a+b');
  await asked;
  await registry.unload('b');
  letIn();
  await lease.whenReady();
  assert.ok(lease.ready);
  lease.release();
  assert.equal(executor.resident.size, 0);
  assert.equal(registry.info('b')?.version, null);
  assert.notEqual(registry.info('a')?.version, null);
});

test('after the executor is lost a composition is loaded again', async (t) => {
  const { root, registry, executor } = await openRegistry(t, writeAll('a', 'b'));
  const [kept, lost] = [registry.lease('a+b'), registry.lease('b+a')];
  await Promise.all([kept.whenReady(), lost.whenReady()]);
  const { key } = kept;
  executor.reset();
  assert.ok(!kept.ready);
  await kept.whenReady();
  assert.equal(kept.key, key);
  assert.ok(executor.resident.has(key));
  executor.reset();
  write('b', 9)(root);
  await assert.rejects(lost.whenReady(), refusal('ENGINE_RESTARTED', '"b+a"'));
  kept.release();
  lost.release();
});

test('a broken part fails its compositions by name, and nothing else', async (t) => {
  const { root, registry } = await openRegistry(t, writeAll('a', 'b'));
  writeFileSync(path.join(root, 'b', 'adapter_model.safetensors'), 'broken');
  await registry.rescan();
  await registry.settled();
  assert.equal(registry.resolve('a+b').state, 'failed');
  await assert.rejects(registry.lease('a+b').whenReady(), refusal('SAFETENSORS_TRUNCATED', 'Adapter "b": '));
  await assert.rejects(registry.lease('a+b').whenReady(), refusal('SAFETENSORS_TRUNCATED', 'Adapter "b": '));
  const { error } = registry.info('b') ?? {};
  assert.equal(error?.code, 'SAFETENSORS_TRUNCATED');
  assert.ok(!error.message.includes('Adapter "b"'));
  assert.equal(registry.info('a')?.error, null);
  await touch(registry, 'a');
  write('b', 2)(root);
  await touch(registry, 'a+b');
});

test('a part whose folder is gone is unknown', async (t) => {
  const { root, registry } = await openRegistry(t, writeAll('a', 'b'));
  rmSync(path.join(root, 'b'), { recursive: true });
  await assert.rejects(registry.lease('a+b').whenReady(), refusal('UNKNOWN_MODEL', '"b"'));
});

test('adapters that do not go together: refused without reading them again, until one changes', async (t) => {
  const { root, registry, executor, loader } = await openRegistry(t, (directory) => {
    writeAdapter(directory, 'a', { ...queryTensors(1), ...bias(1) });
    writeAdapter(directory, 'b', { ...queryTensors(2), ...bias(2) });
  });
  let reads = 0;
  const load = loader.load.bind(loader);
  loader.load = (parts) => {
    reads++;
    return load(parts);
  };
  for (let i = 0; i < 3; i++) {
    await assert.rejects(
      registry.lease('a+b').whenReady(),
      refusal('ADAPTER_PART_UNSUPPORTED', 'encoder.query', 'bias'),
    );
  }
  assert.equal(reads, 1);
  assert.deepEqual([registry.info('a')?.error, registry.info('b')?.error], [null, null]);
  await Promise.all([touch(registry, 'a'), touch(registry, 'b')]);
  writeAdapter(root, 'b', queryTensors(2));
  const version = await touch(registry, 'a+b');
  await registry.settled();
  // What was resident of the replaced part by itself is resident again.
  assert.deepEqual([...executor.resident.keys()].map((key) => key.replace(/@[^+]*/g, '')).sort(), [
    'a',
    'a+b',
    'b',
  ]);
  assert.equal(version, `${registry.info('a')?.version}+${registry.info('b')?.version}`);
});

test('a composition beyond the host cache is refused', async (t) => {
  const limit = { maxOperandBytes: 200 };
  const { registry } = await openRegistry(
    t,
    (directory) => {
      write('a')(directory);
      writeAdapter(directory, 'b', boftTensors('classifier', { D: 2, b: 3, out: 3 }));
    },
    { hostCacheBytes: 200 },
    limit,
  );
  await assert.rejects(registry.lease('a+b').whenReady(), refusal('ADAPTER_TOO_LARGE', '200'));
  await touch(registry, 'a');
});

test('refused: unknown parts by name, the base as a part, what is no composition', async (t) => {
  const { registry } = await openRegistry(t, writeAll('acme', 'zeta'));
  const both = (selection: string, check: (error: unknown) => true) => {
    assert.throws(() => registry.lease(selection), check);
    assert.throws(() => registry.resolve(selection), check);
  };
  both('acme+zota', refusal('UNKNOWN_MODEL', '"zota"', 'Did you mean "zeta"?'));
  both('nobody+zeta', refusal('UNKNOWN_MODEL', '"nobody"'));
  both('acme+base', refusal('INVALID_REQUEST', '"base"'));
  both('base*0.5', refusal('INVALID_REQUEST', '"base"'));
  both('acme+', refusal('INVALID_REQUEST', 'empty part'));
  both(Array(9).fill('acme').join('+'), refusal('INVALID_REQUEST', 'At most 8'));
  assert.equal(registry.info('acme')?.requests, 0, 'refused requests leave no trace');
  for (const change of [registry.unload('acme+zeta'), registry.configure('acme+zeta', { pinned: true })]) {
    await assert.rejects(change, refusal('UNKNOWN_MODEL'));
  }
  await assert.rejects(registry.load('acme+zeta'), refusal('ADAPTER_NAME_INVALID'));
});

test('an adapter composed with itself is applied twice', async (t) => {
  const { registry } = await openRegistry(t, writeAll('a'));
  const version = await touch(registry, 'a');
  assert.equal(await touch(registry, 'a+a'), `${version}+${version}`);
  assert.equal(registry.info('a')?.requests, 2);
});
