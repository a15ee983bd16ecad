import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { exampleOf } from './demo.js';
import { ROOT } from './server.js';
import type { RunningServer } from './server.js';
import { until } from './until.js';
import { Workspace } from './workspace.js';

const TENANT = 'acme-retail';
const MAX_BODY = 64 * 1024;

interface Refusal {
  readonly what: string;
  readonly path: string;
  readonly status: number;
  /** What the message must say. */
  readonly says: RegExp;
  readonly body?: unknown;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const INFER = `/v2/models/${TENANT}/infer`;
const ids = { name: 'input_ids', datatype: 'INT64', shape: [1, 2], data: [2, 3] as unknown };
const mask = { ...ids, name: 'attention_mask', data: [1, 1] as unknown };
const types = { ...ids, name: 'token_type_ids', data: [0, 0] as unknown };
const inputs = [ids, mask, types];
const binary = (size: number) => ({
  name: 'input_ids',
  datatype: 'INT64',
  shape: [1, 2],
  parameters: { binary_data_size: size },
});

const REFUSALS: readonly Refusal[] = [
  { what: 'not JSON', path: INFER, status: 400, says: /JSON/, body: '{"inputs":' },
  { what: 'no inputs', path: INFER, status: 400, says: /inputs/, body: {} },
  {
    what: 'missing input',
    path: INFER,
    status: 400,
    says: /token_type_ids|attention_mask/,
    body: { inputs: [ids] },
  },
  {
    what: 'unknown input',
    path: INFER,
    status: 400,
    says: /pixels/,
    body: { inputs: [...inputs, { ...ids, name: 'pixels' }] },
  },
  {
    what: 'token id beyond the vocabulary',
    path: INFER,
    status: 400,
    says: /99999/,
    body: { inputs: [{ ...ids, data: [2, 99999] }, mask, types] },
  },
  {
    what: 'sequence longer than the model has positions',
    path: INFER,
    status: 400,
    says: /sequence/,
    body: {
      inputs: inputs.map((input) => ({ ...input, shape: [1, 600], data: Array<number>(600).fill(1) })),
    },
  },
  {
    what: 'wrong datatype',
    path: INFER,
    status: 400,
    says: /input_ids.*INT64|INT64.*input_ids/,
    body: { inputs: [{ ...ids, datatype: 'FP32' }, mask, types] },
  },
  {
    what: 'wrong rank',
    path: INFER,
    status: 400,
    says: /input_ids/,
    body: { inputs: [{ ...ids, shape: [2] }, mask, types] },
  },
  {
    what: 'too few values',
    path: INFER,
    status: 400,
    says: /input_ids/,
    body: { inputs: [{ ...ids, data: [2] }, mask, types] },
  },
  {
    what: 'ragged data',
    path: INFER,
    status: 400,
    says: /input_ids/,
    body: { inputs: [{ ...ids, shape: [2, 1], data: [[2], [3, 4]] }, mask, types] },
  },
  {
    what: 'beyond int64',
    path: INFER,
    status: 400,
    says: /input_ids/,
    body: `{"inputs":[{"name":"input_ids","datatype":"INT64","shape":[1,1],"data":[9223372036854775808]}]}`,
  },
  {
    what: 'shapes that disagree',
    path: INFER,
    status: 400,
    says: /attention_mask|input_ids/,
    body: { inputs: [ids, { ...mask, shape: [1, 3], data: [1, 1, 1] }, types] },
  },
  {
    what: 'no rows',
    path: INFER,
    status: 400,
    says: /input_ids|row/,
    body: { inputs: inputs.map((input) => ({ ...input, shape: [0, 2], data: [] })) },
  },
  {
    what: 'too many rows',
    path: INFER,
    status: 400,
    says: /rows/,
    body: {
      inputs: inputs.map((input) => ({ ...input, shape: [2000, 1], data: Array<number>(2000).fill(1) })),
    },
  },
  {
    what: 'unknown output',
    path: INFER,
    status: 400,
    says: /probabilities/,
    body: { inputs, outputs: [{ name: 'probabilities' }] },
  },
  {
    what: 'binary length that does not fit',
    path: INFER,
    status: 400,
    says: /input_ids|binary/,
    body: { inputs: [binary(999)] },
  },
  {
    what: 'unknown adapter',
    path: '/v2/models/acme-retial/infer',
    status: 404,
    says: /acme-retial/,
    body: { inputs },
  },
  {
    what: 'unknown version',
    path: `/v2/models/${TENANT}/versions/00000000/infer`,
    status: 404,
    says: /00000000/,
    body: { inputs },
  },
  {
    what: 'contradictory adapters',
    path: INFER,
    status: 400,
    says: /acme-retail.*other|other.*acme-retail/,
    body: { inputs },
    headers: { 'X-Adapter-Id': 'other' },
  },
  {
    what: 'broken adapter',
    path: '/v2/models/broken/infer',
    status: 422,
    says: /safetensors|header|truncated|bytes|short/i,
    body: { inputs },
  },
  {
    what: 'body too large',
    path: INFER,
    status: 413,
    says: /65536/,
    body: { inputs, padding: 'x'.repeat(MAX_BODY) },
  },
  {
    what: 'content type',
    path: INFER,
    status: 415,
    says: /text\/html/,
    body: '<p>',
    headers: { 'Content-Type': 'text/html' },
  },
  { what: 'method', path: INFER, status: 405, says: /GET/, method: 'GET' },
  { what: 'route', path: '/v2/no/such/route', status: 404, says: /route/, method: 'GET' },
  {
    what: 'path with a traversal',
    path: '/v2/models/..%2F..%2Fetc%2Fpasswd/infer',
    status: 404,
    says: /passwd/,
    body: { inputs },
  },
  {
    what: 'classify without a text',
    path: '/v1/classify',
    status: 400,
    says: /input/,
    body: { model: TENANT },
  },
  {
    what: 'classify with a broken adapter',
    path: '/v1/classify',
    status: 422,
    says: /./,
    body: { model: 'broken', input: 'hello' },
  },
  {
    what: 'classify with an unknown model',
    path: '/v1/classify',
    status: 404,
    says: /nobody/,
    body: { model: 'nobody', input: 'hello' },
  },
  {
    what: 'unknown adapter in the list',
    path: '/v1/adapters/nobody',
    status: 404,
    says: /nobody/,
    method: 'GET',
  },
  {
    what: 'change without a token',
    path: `/v1/adapters/${TENANT}`,
    status: 403,
    says: /admin/,
    method: 'PUT',
    body: {},
  },
];

describe('what cannot be answered is refused in the protocol’s own shape', () => {
  const workspace = new Workspace([TENANT]);
  let server: RunningServer;
  before(async () => {
    workspace.install(
      workspace.stageFiles({
        'adapter_config.json': '{"peft_type":"BOFT"}',
        'adapter_model.safetensors': 'x',
      }),
      'broken',
    );
    server = await workspace.start({ flags: ['--max-body-bytes', String(MAX_BODY)] });
  });
  after(() => workspace.close());

  /** A failed answer's message; the shape depends on the protocol. */
  function messageOf(path: string, text: string): string {
    const { error } = JSON.parse(text) as { error: string | { message: string; type: string; code: string } };
    if (path.startsWith('/v2')) {
      assert.ok(typeof error === 'string');
      return error;
    }
    assert.ok(typeof error === 'object');
    assert.ok(error.type !== '' && error.code !== '');
    return error.message;
  }

  const assertNoPath = (text: string): void => {
    for (const secret of [ROOT, workspace.folder, '/tmp', process.cwd(), 'node_modules', '.js:']) {
      assert.ok(!text.includes(secret), `${secret} in ${text}`);
    }
  };

  for (const { what, path, status, says, body, method = 'POST', headers = {} } of REFUSALS) {
    test(`${status} for ${what}`, async () => {
      const answer = await fetch(`${server.url}${path}`, {
        method,
        headers: { 'Content-Type': 'application/json', ...headers },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      const text = await answer.text();
      assert.equal(answer.status, status, text);
      assert.match(messageOf(path, text), says);
      assertNoPath(text);
    });
  }

  test('nothing else was disturbed', async () => {
    const { input_ids: row } = exampleOf(TENANT);
    const data = { shape: [1, row.length], datatype: 'INT64' };
    const answer = await fetch(`${server.url}${INFER}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({
        inputs: [
          { ...data, name: 'input_ids', data: row },
          { ...data, name: 'attention_mask', data: row.map(() => 1) },
          { ...data, name: 'token_type_ids', data: row.map(() => 0) },
        ],
      }),
    });
    assert.equal(answer.status, 200);
    assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
  });

  test('no list tells a path of the server', async () => {
    await until('the broken folder is listed as failed', async () => {
      const text = await (await fetch(`${server.url}/v1/adapters/broken`)).text();
      assertNoPath(text);
      return (JSON.parse(text) as { state: string }).state === 'failed' || undefined;
    });
    const get = ['/v1/adapters', '/v1/models', '/v2', '/v2/models/stats', `/v2/models/${TENANT}`, '/metrics'];
    for (const path of get) assertNoPath(await (await fetch(`${server.url}${path}`)).text());
    const index = await fetch(`${server.url}/v2/repository/index`, { method: 'POST' });
    assertNoPath(await index.text());
    assert.equal(server.stderr, '');
  });
});
