import assert from 'node:assert/strict';
import { Agent, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import { HttpServer } from '#dist/http/index.js';
import { settle } from '../support/fake-clock.js';
import { createTestApp, ECHO_BODY } from './support/app.js';
import type { TestApp } from './support/app.js';

const HOST = '127.0.0.1';
const GRACE_MS = 10_000;

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
}

function ask(server: HttpServer, path: string, body?: object, agent?: Agent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const method = body === undefined ? 'GET' : 'POST';
    const { port } = server.address;
    const client = httpRequest({ host: HOST, port, path, method, agent: agent ?? false }, (res) => {
      res.resume();
      res.on('end', () => {
        resolve({ status: res.statusCode, headers: res.headers });
      });
    });
    client.on('error', reject);
    client.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function listen({ app, lifecycle, clock }: TestApp): Promise<HttpServer> {
  return HttpServer.listen(app, { host: HOST, port: 0, lifecycle, clock });
}

test('an idle server drains at once, idle connections included', async () => {
  const context = createTestApp();
  const server = await listen(context);
  const agent = new Agent({ keepAlive: true });
  const answer = await ask(server, '/healthz', undefined, agent);
  assert.equal(answer.headers.connection, 'keep-alive');
  await server.drain(GRACE_MS);
  await server.drain(GRACE_MS);
  assert.equal(context.clock.pending, 0);
  agent.destroy();
});

test('draining: probes are answered, new work refused, work under way finished', async () => {
  const context = createTestApp();
  const { engine } = context;
  const server = await listen(context);
  const agent = new Agent({ keepAlive: true });
  let open = (): void => undefined;
  engine.gate = new Promise((resolve) => {
    open = resolve;
  });
  const arrived = engine.arrival();
  const pending = ask(server, '/v2/models/acme/infer', ECHO_BODY, agent);
  await arrived;
  const drained = server.drain(GRACE_MS);
  assert.equal((await ask(server, '/readyz')).status, 503);
  assert.equal((await ask(server, '/healthz')).status, 200);
  const refused = await ask(server, '/v2/models/acme/infer', ECHO_BODY);
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.connection, 'close');
  open();
  const answer = await pending;
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.connection, 'close');
  await drained;
  await assert.rejects(ask(server, '/healthz'), /ECONNREFUSED/);
  agent.destroy();
});

test('what is not finished in the grace period is cut', async () => {
  const context = createTestApp();
  const { engine, clock, observations } = context;
  const server = await listen(context);
  engine.gate = new Promise(() => undefined);
  const arrived = engine.arrival();
  const pending = ask(server, '/v2/models/acme/infer', ECHO_BODY);
  const cut = assert.rejects(pending, /socket hang up|ECONNRESET/);
  await arrived;
  const drained = server.drain(GRACE_MS);
  clock.advance(GRACE_MS - 1);
  assert.equal(observations.length, 0);
  clock.advance(1);
  await cut;
  await drained;
  assert.equal(observations[0]?.outcome, 'CLIENT_CLOSED');
});

test('a connection that never sends a request does not hold the drain up', async () => {
  const context = createTestApp();
  const server = await listen(context);
  const socket = connect(server.address.port, HOST);
  await new Promise<void>((resolve) =>
    socket.once('connect', () => {
      resolve();
    }),
  );
  await ask(server, '/healthz');
  const closed = new Promise<void>((resolve) =>
    socket.once('close', () => {
      resolve();
    }),
  );
  socket.on('error', () => undefined);
  socket.resume();
  const drained = server.drain(GRACE_MS);
  await settle();
  context.clock.advance(1000);
  await drained;
  await closed;
});

test('refused: a port that is taken', async () => {
  const context = createTestApp();
  const server = await listen(context);
  const { lifecycle, clock, app } = context;
  await assert.rejects(
    HttpServer.listen(app, { host: HOST, port: server.address.port, lifecycle, clock }),
    (error) =>
      error instanceof PapillonError &&
      error.code === 'CONFIG_INVALID' &&
      error.message.includes('already in use'),
  );
  await server.drain(GRACE_MS);
});
