import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import request from 'supertest';
import { createTestApp, ECHO_BODY } from './support/app.js';

const INFER = '/v2/models/base/infer';
const CLASSIFY = '/v1/classify';

/** The message, whichever of the two shapes the answer has; checks the shape. */
function messageOf(path: string, body: unknown): string {
  const { error } = body as { error: unknown };
  if (path.startsWith('/v2')) {
    assert.equal(typeof error, 'string');
    return error as string;
  }
  const fields = error as Record<string, unknown>;
  assert.deepEqual(Object.keys(fields).sort(), ['code', 'message', 'param', 'type']);
  return fields.message as string;
}

test('refused in the protocol’s own shape: invalid JSON, none at all', async () => {
  const { app } = createTestApp();
  for (const path of [INFER, CLASSIFY]) {
    for (const body of ['{"inputs": [', '']) {
      const answer = await request(app).post(path).set('Content-Type', 'application/json').send(body);
      assert.equal(answer.status, 400);
      assert.match(messageOf(path, answer.body), /JSON/);
    }
  }
});

test('refused: other content types', async () => {
  const { app } = createTestApp();
  for (const path of [INFER, CLASSIFY]) {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
      const answer = await request(app).post(path).set('Content-Type', type).send('{}');
      assert.equal(answer.status, 415);
      assert.match(messageOf(path, answer.body), /send application\/json/);
    }
  }
  const binary = await request(app).post(CLASSIFY).set('Content-Type', 'application/octet-stream').send('{}');
  assert.equal(binary.status, 415);
});

test('JSON with a charset or a suffix is JSON, and so is a body without a type', async () => {
  const { app } = createTestApp();
  for (const type of ['application/json; charset=utf-8', 'Application/JSON', 'application/vnd.api+json']) {
    const answer = await request(app).post(INFER).set('Content-Type', type).send(JSON.stringify(ECHO_BODY));
    assert.equal(answer.status, 200, type);
  }
  const untyped = await request(app)
    .post(INFER)
    .unset('Content-Type')
    .send(Buffer.from(JSON.stringify(ECHO_BODY)));
  assert.equal(untyped.status, 200);
});

test('refused: bodies over the limit, also once decompressed', async () => {
  const { app } = createTestApp({ maxBodyBytes: 1000 });
  const long = JSON.stringify({ ...ECHO_BODY, id: 'x'.repeat(2000) });
  for (const path of [INFER, CLASSIFY]) {
    const plain = await request(app).post(path).set('Content-Type', 'application/json').send(long);
    assert.equal(plain.status, 413);
    assert.match(messageOf(path, plain.body), /1000 bytes/);
    const packed = request(app)
      .post(path)
      .set('Content-Type', 'application/json')
      .set('Content-Encoding', 'gzip');
    packed.write(gzipSync(long));
    assert.equal((await packed).status, 413);
  }
});

test('compressed bodies are read', async () => {
  const { app } = createTestApp();
  const packed = request(app)
    .post(INFER)
    .set('Content-Type', 'application/json')
    .set('Content-Encoding', 'gzip');
  packed.write(gzipSync(JSON.stringify(ECHO_BODY)));
  assert.equal((await packed).status, 200);
});

test('refused: encodings that are not known, and bodies that do not decompress', async () => {
  const { app } = createTestApp();
  const post = () => request(app).post(INFER).set('Content-Type', 'application/json');
  const unknown = await post().set('Content-Encoding', 'lzma').send('{}');
  assert.equal(unknown.status, 415);
  assert.match(messageOf(INFER, unknown.body), /Content-Encoding/);
  const broken = await post().set('Content-Encoding', 'gzip').send('{}');
  assert.equal(broken.status, 400);
  assert.match(messageOf(INFER, broken.body), /could not be read/);
});

test('refused: a JSON length that is no length, or longer than the body', async () => {
  const { app } = createTestApp();
  for (const length of ['-1', 'x', '1e3', '99999']) {
    const answer = await request(app)
      .post(INFER)
      .set('Inference-Header-Content-Length', length)
      .send(ECHO_BODY);
    assert.equal(answer.status, 400);
    assert.match(messageOf(INFER, answer.body), /Inference-Header-Content-Length/);
  }
});

test('refused: unknown paths, broken paths and other methods', async () => {
  const { app, observations } = createTestApp();
  for (const path of ['/v2/nothing', '/v1/nothing', '/', '/v2/models/base/nothing/at/all']) {
    const answer = await request(app).get(path);
    assert.equal(answer.status, 404);
    messageOf(path, answer.body);
    assert.equal(observations.at(-1)?.route, 'unmatched');
  }
  const broken = await request(app).get('/v2/models/%E0%A4%A');
  assert.equal(broken.status, 400);
  assert.match(messageOf('/v2', broken.body), /percent/);
  const cases: ['get' | 'delete' | 'put', string, string][] = [
    ['get', INFER, 'POST, OPTIONS'],
    ['delete', '/v2/models/base', 'GET, HEAD, OPTIONS'],
    ['get', CLASSIFY, 'POST, OPTIONS'],
    ['put', '/healthz', 'GET, HEAD, OPTIONS'],
    ['delete', '/v1/adapters', 'GET, HEAD, OPTIONS'],
  ];
  for (const [method, path, allow] of cases) {
    const answer = await request(app)[method](path);
    assert.equal(answer.status, 405);
    assert.equal(answer.headers.allow, allow);
    messageOf(path, answer.body);
  }
});

test('HEAD and OPTIONS are answered', async () => {
  const { app } = createTestApp();
  const head = await request(app).head('/v2/models/base');
  assert.equal(head.status, 200);
  assert.equal(head.text, undefined);
  const options = await request(app).options(INFER);
  assert.equal(options.status, 204);
  assert.equal(options.headers.allow, 'POST, OPTIONS');
});
