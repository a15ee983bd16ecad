/**
 * A running server whose adapters directory is written to by somebody who should not, and whose clients send anything:
 * a healthy adapter answers exactly right throughout, and nothing is left of it all at the end.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { infer, tryInfer } from '../e2e/client.js';
import { exampleOf, isClose, setOf } from '../e2e/demo.js';
import { scrape } from '../e2e/prometheus.js';
import { DEMO_ADAPTERS } from '../e2e/server.js';
import { Workspace } from '../e2e/workspace.js';
import { at } from '../support/at.js';
import { request } from './bodies.js';
import type { RawRequest } from './bodies.js';
import { damage, damageHead } from './mutations.js';

const ROUNDS = 300;
const WARM_UP = 100;
const VICTIMS = 6;
const MAX_GROWTH_BYTES = 80 * 1024 * 1024;
const TOKEN = 'a-token-for-tests';
const HEALTHY = ['acme-retail', 'globex-cloud'] as const;

const workspace = new Workspace(HEALTHY);
after(() => workspace.close());

const CONFIG = readFileSync(join(DEMO_ADAPTERS, 'initech-bank', 'adapter_config.json'));
const WEIGHTS = readFileSync(join(DEMO_ADAPTERS, 'initech-bank', 'adapter_model.safetensors'));
const HEAD_BYTES = 8 + Number(WEIGHTS.readBigUInt64LE());

/** What is done to one adapter's folder. */
type Attack = (name: string) => void;

function folderOf(name: string): string {
  return join(workspace.adapters, name);
}

const attack: fc.Arbitrary<Attack> = fc.oneof(
  {
    arbitrary: damage.map((mutate): Attack => (name) => {
      const weights = damageHead(WEIGHTS, HEAD_BYTES, mutate);
      const files = { 'adapter_config.json': CONFIG, 'adapter_model.safetensors': weights };
      workspace.install(workspace.stageFiles(files), name);
    }),
    weight: 4,
  },
  {
    arbitrary: damage.map((mutate): Attack => (name) => {
      const files = { 'adapter_config.json': mutate(CONFIG), 'adapter_model.safetensors': WEIGHTS };
      workspace.install(workspace.stageFiles(files), name);
    }),
    weight: 2,
  },
  // Values alone: many of these load.
  damage.map((mutate): Attack => (name) => {
    const damaged = mutate(WEIGHTS.subarray(HEAD_BYTES));
    const weights = Buffer.concat([WEIGHTS.subarray(0, HEAD_BYTES), damaged]);
    const files = { 'adapter_config.json': CONFIG, 'adapter_model.safetensors': weights };
    workspace.install(workspace.stageFiles(files), name);
  }),
  // In place, while it may be read.
  damage.map((mutate): Attack => (name) => {
    if (existsSync(folderOf(name)))
      writeFileSync(join(folderOf(name), 'adapter_model.safetensors'), mutate(WEIGHTS));
    else workspace.install(workspace.stage('initech-bank'), name);
  }),
  fc.constant((name: string) => {
    if (existsSync(folderOf(name))) workspace.remove(name);
  }),
  fc.constant((name: string) => {
    const staged = workspace.stageFiles({ 'adapter_config.json': CONFIG });
    symlinkSync('/etc/passwd', join(staged, 'adapter_model.safetensors'));
    workspace.install(staged, name);
  }),
  fc.constant((name: string) => {
    workspace.install(workspace.stageFiles({ 'adapter_model.bin': 'cos\nsystem\n' }), name);
  }),
  fc.constant((name: string) => {
    const labels = '{"id2label":{"0":"one"}}';
    const files = {
      'adapter_config.json': CONFIG,
      'adapter_model.safetensors': WEIGHTS,
      'config.json': labels,
    };
    workspace.install(workspace.stageFiles(files), name);
  }),
);

/** Refused as the client's or the files' fault, in JSON, and without a path. */
async function assertAnswered(answer: Response, what: string): Promise<void> {
  const text = Buffer.from(await answer.arrayBuffer()).toString('latin1');
  // Ids beyond the vocabulary show only in the run, which fails for its own request alone.
  const isRun = answer.status === 500 && text.includes('Non-zero status code returned while running');
  const isFair = answer.status < 500 || answer.status === 501 || isRun;
  assert.ok(isFair, `${what}: ${answer.status} ${text.slice(0, 300)}`);
  assert.ok(!text.includes(workspace.folder), text.slice(0, 300));
  if (answer.status >= 400) assert.ok('error' in (JSON.parse(text) as object), text.slice(0, 300));
}

async function send(url: string, { path, headers, body }: RawRequest): Promise<number> {
  const answer = await fetch(`${url}${path}`, { method: 'POST', headers, body });
  await assertAnswered(
    answer,
    `${path} ${JSON.stringify(headers)} ${Buffer.from(body).toString('latin1').slice(0, 600)}`,
  );
  return answer.status;
}

/** Attacks one adapter, has it loaded at once, and asks it. Returns the status of its answer. */
async function visit(url: string, name: string, strike: Attack): Promise<number> {
  strike(name);
  const loaded = await fetch(`${url}/v1/adapters/${name}`, {
    method: 'PUT',
    headers: { Authorization: `Bearer ${TOKEN}` },
  });
  await assertAnswered(loaded, `load ${name}`);
  const answer = await tryInfer(url, { model: name, rows: [exampleOf('initech-bank').input_ids] });
  if (answer.status === 200) assert.ok(answer.logits.every((row) => row.every(Number.isFinite)));
  else assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status} ${answer.error ?? ''}`);
  return answer.status;
}

async function askHealthy(url: string, model: string, round: number, binary: boolean): Promise<void> {
  const { logits: examples } = setOf(model);
  const example = at(examples, round % examples.length);
  const [logits] = await infer(url, { model, rows: [example.input_ids], binary });
  assert.ok(isClose(logits ?? [], example.logits), `${model} is wrong in round ${round}`);
}

test('healthy adapters answer exactly right while everything around them is damaged', async () => {
  const server = await workspace.start({ flags: ['--admin-token', TOKEN] });
  const { url } = server;
  const resident = async (): Promise<number> => (await scrape(url)).sum('process_resident_memory_bytes');
  const attacks = fc.sample(attack, { numRuns: ROUNDS, seed: 51 });
  const requests = fc.sample(request, { numRuns: 2 * ROUNDS, seed: 52 });
  const statuses = { victims: new Set<number>(), bodies: new Set<number>() };
  let warm = NaN;
  for (let round = 0; round < ROUNDS; round++) {
    const victim = visit(url, `victim-${round % VICTIMS}`, at(attacks, round));
    const bodies = [0, 1].map((i) => send(url, at(requests, 2 * round + i)));
    const healthy = HEALTHY.map((model, i) => askHealthy(url, model, round, (round + i) % 2 === 0));
    await Promise.all([...healthy, victim, ...bodies]);
    statuses.victims.add(await victim);
    for (const body of bodies) statuses.bodies.add(await body);
    if (round === WARM_UP) warm = await resident();
  }
  // What was damaged was asked, and some of it served.
  for (const status of [200, 422]) assert.ok(statuses.victims.has(status), [...statuses.victims].join());
  for (const status of [200, 400, 404]) assert.ok(statuses.bodies.has(status), [...statuses.bodies].join());
  const growth = (await resident()) - warm;
  assert.ok(growth < MAX_GROWTH_BYTES, `memory grew by ${Math.round(growth / 2 ** 20)} MiB`);
  assert.equal((await fetch(`${url}/readyz`)).status, 200);
  // ONNX Runtime itself writes down runs that fail; nothing else does.
  const written = server.stderr.split('\n').filter((line) => line !== '' && !line.includes('[E:onnxruntime'));
  assert.deepEqual(written, []);
  const { code } = await server.stop();
  assert.equal(code, 0);
});
