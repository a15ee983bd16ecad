/** Compositions and strengths as requests ask for them: where, what answers call them, what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import request from 'supertest';
import { adapterInfo } from './support/memory-engine.js';
import { createTestApp, ECHO_BODY } from './support/app.js';

const infer = (app: Parameters<typeof request>[0], model = 'base') =>
  request(app).post(`/v2/models/${model}/infer`);
const withParameters = (parameters: object) => ({ ...ECHO_BODY, parameters });
const errorOf = ({ body }: request.Response) => (body as { error: string }).error;

test('a composition is named wherever an adapter is', async () => {
  const { app, engine, logger } = createTestApp();
  const answers = [
    await infer(app, 'acme+zeta').send(ECHO_BODY),
    await infer(app).send(withParameters({ adapter_id: 'acme+zeta' })),
    await infer(app).set('X-Adapter-Id', 'acme+zeta').send(ECHO_BODY),
    await infer(app, encodeURIComponent('acme+zeta')).set('X-Adapter-Id', 'acme+zeta').send(ECHO_BODY),
  ];
  for (const answer of answers) {
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['x-adapter-id'], 'acme+zeta@acme-v1+zeta-v1');
    const { model_name: name, model_version: version } = answer.body as Record<string, string>;
    assert.deepEqual([name, version], ['acme+zeta', 'acme-v1+zeta-v1']);
  }
  assert.deepEqual(
    engine.requests.map(({ adapterId }) => adapterId),
    ['acme+zeta', 'acme+zeta', 'acme+zeta', 'acme+zeta'],
  );
  assert.equal(logger.lines[0]?.fields.adapter, 'acme+zeta');
  const classified = await request(app).post('/v1/classify').send({ input: 'a', model: 'acme+zeta' });
  assert.equal((classified.body as { model: string }).model, 'acme+zeta');
});

test('a composition is described and has figures, but is none of the adapters', async () => {
  const { app, adapters } = createTestApp();
  adapters.infos.set('acme', adapterInfo('acme', { labels: ['a', 'b', 'c', 'd', 'e'] }));
  const described = (await request(app).get('/v2/models/acme+zeta')).body as {
    name: string;
    versions: string[];
  };
  assert.deepEqual([described.name, described.versions], ['acme+zeta', ['acme-v1+zeta-v1']]);
  assert.equal((await request(app).get('/v2/models/acme+zeta/ready')).status, 200);
  const stats = (await request(app).get('/v2/models/acme+zeta/stats')).body as {
    model_stats: { name: string }[];
  };
  assert.deepEqual(
    stats.model_stats.map(({ name }) => name),
    ['acme+zeta'],
  );
  assert.equal((await request(app).get('/v1/adapters/acme+zeta')).status, 404);
});

test('an unknown part is named, and another order is another composition', async () => {
  const { app, engine } = createTestApp();
  const unknown = await infer(app, 'acme+nobody').send(ECHO_BODY);
  assert.equal(unknown.status, 404);
  assert.match(errorOf(unknown), /"nobody"/);
  const turned = await infer(app, 'acme+zeta').set('X-Adapter-Id', 'zeta+acme').send(ECHO_BODY);
  assert.equal(turned.status, 400);
  assert.match(errorOf(turned), /"acme\+zeta" and "zeta\+acme"/);
  assert.equal(engine.requests.length, 0);
});

test('a strength is given by parameter, body or header', async () => {
  const { app, engine } = createTestApp();
  const answers = [
    await infer(app, 'acme').send(withParameters({ strength: 0.5 })),
    await infer(app, 'acme').set('X-Adapter-Strength', '0.5').send(ECHO_BODY),
    await infer(app, 'acme')
      .set('X-Adapter-Strength', '.50, 5e-1')
      .send(withParameters({ strength: 0.5 })),
  ];
  for (const answer of answers) {
    assert.equal(answer.status, 200);
    assert.equal(answer.headers['x-adapter-id'], 'acme@acme-v1*0.5');
  }
  assert.deepEqual(
    engine.requests.map(({ strength }) => strength),
    [0.5, 0.5, 0.5],
  );
  const classify = (body: object) =>
    request(app)
      .post('/v1/classify')
      .send({ input: 'a', model: 'acme', ...body });
  for (const body of [{ strength: -1 }, { parameters: { strength: -1 } }]) {
    assert.equal((await classify(body)).headers['x-adapter-id'], 'acme@acme-v1*-1');
  }
  const byHeader = await classify({}).set('X-Adapter-Strength', '-1');
  assert.equal(byHeader.headers['x-adapter-id'], 'acme@acme-v1*-1');
});

test('a strength of zero is one', async () => {
  const { app, engine } = createTestApp();
  await infer(app, 'acme').set('X-Adapter-Strength', '0').send(ECHO_BODY);
  await infer(app, 'acme').send(withParameters({ strength: 0 }));
  assert.deepEqual(
    engine.requests.map(({ strength }) => strength),
    [0, 0],
  );
});

test('refused: strengths that disagree, are none, or have no adapter', async () => {
  const { app, engine } = createTestApp();
  const answers = [
    await infer(app, 'acme')
      .set('X-Adapter-Strength', '0.4')
      .send(withParameters({ strength: 0.5 })),
    await infer(app, 'acme').set('X-Adapter-Strength', '0.4, 0.5').send(ECHO_BODY),
    await infer(app, 'acme').set('X-Adapter-Strength', 'strong').send(ECHO_BODY),
    await infer(app, 'acme').set('X-Adapter-Strength', '0x10').send(ECHO_BODY),
    await infer(app, 'acme').set('X-Adapter-Strength', 'Infinity').send(ECHO_BODY),
    await infer(app, 'acme').send(withParameters({ strength: '0.5' })),
    await infer(app).send(withParameters({ strength: 0.5 })),
    await infer(app).set('X-Adapter-Strength', '1').send(ECHO_BODY),
  ];
  const messages = [
    /two strengths, 0.5 and 0.4/,
    /two strengths, 0.4 and 0.5/,
    /X-Adapter-Strength must be a number, found "strong"/,
    /must be a number, found "0x10"/,
    /must be a number, found "Infinity"/,
    /parameters\.strength must be a number/,
    /no adapter/,
    /no adapter/,
  ];
  for (const [index, answer] of answers.entries()) {
    assert.equal(answer.status, 400);
    assert.match(errorOf(answer), messages[index] ?? /^$/);
  }
  const classified = await request(app)
    .post('/v1/classify')
    .set('X-Adapter-Strength', '0.4')
    .send({ input: 'a', model: 'acme', strength: 0.5 });
  assert.equal(classified.status, 400);
  assert.equal((classified.body as { error: { code: string } }).error.code, 'CONFLICTING_ADAPTERS');
  assert.equal(engine.requests.length, 0);
});

test('a version in the path is the files’: the strength may be left out', async () => {
  const { app, adapters } = createTestApp();
  const post = (path: string) =>
    request(app).post(`/v2/models/${path}/infer`).set('X-Adapter-Strength', '0.5').send(ECHO_BODY);
  assert.equal((await post('acme/versions/acme-v1')).status, 200);
  assert.equal((await post('acme/versions/acme-v1*0.5')).status, 200);
  assert.equal((await post('acme+zeta/versions/acme-v1+zeta-v1')).status, 200);
  assert.equal((await post('acme/versions/acme-v1*0.4')).status, 404);
  assert.equal((await post('acme/versions/acme-v2')).status, 404);
  assert.equal((await post('acme+zeta/versions/acme-v1')).status, 404);
  adapters.infos.set('cold', adapterInfo('cold', { version: null, state: 'available' }));
  assert.equal((await post('acme+cold/versions/other')).status, 404);
  assert.equal(adapters.leases, 0);
});

test('a description has the width of the adapter’s own head', async () => {
  const { app, adapters, engine } = createTestApp();
  adapters.infos.set('acme', adapterInfo('acme', { labels: ['a', 'b', 'c'] }));
  const logits = { name: 'logits', datatype: 'FP32', dims: ['batch', 2] } as const;
  Object.assign(engine, { model: { ...engine.model, outputs: [logits] } });
  const shapeOf = async (model: string) =>
    ((await request(app).get(`/v2/models/${model}`)).body as { outputs: { shape: number[] }[] }).outputs[0]
      ?.shape;
  assert.deepEqual(await shapeOf('base'), [-1, 2]);
  assert.deepEqual(await shapeOf('zeta'), [-1, 2]);
  assert.deepEqual(await shapeOf('acme'), [-1, 3]);
});
