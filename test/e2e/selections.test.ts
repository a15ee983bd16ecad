/** Compositions and strengths over the running server, where what they must answer follows from the demo's files. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { tryInfer } from './client.js';
import { BASE, exampleOf, isClose, setOf } from './demo.js';
import type { Example } from './demo.js';
import type { RunningServer } from './server.js';
import { TENANTS, Workspace } from './workspace.js';

const [FIRST, SECOND] = TENANTS as [string, string, ...string[]];

describe('compositions and strengths', () => {
  const workspace = new Workspace();
  let server: RunningServer;
  before(async () => {
    server = await workspace.start();
  });
  after(() => workspace.close());

  async function ask(model: string, { input_ids: ids }: Example, headers: Record<string, string> = {}) {
    const answer = await tryInfer(server.url, { model, rows: [ids], headers });
    assert.equal(answer.status, 200, answer.error ?? '');
    return { logits: answer.logits[0] ?? new Float32Array(), served: answer.headers.get('x-adapter-id') };
  }

  test('at strength 0 an adapter is the base, and no part of a composition', async () => {
    for (const example of setOf('base').logits) {
      assert.ok(isClose((await ask(`${FIRST}*0`, example)).logits, example.logits), example.text);
    }
    for (const example of setOf(SECOND).logits) {
      for (const model of [`${FIRST}*0+${SECOND}`, `${SECOND}+${FIRST}*0`]) {
        assert.ok(isClose((await ask(model, example)).logits, example.logits), example.text);
      }
    }
  });

  test('at strength 1 it is the checkpoint, wherever that is written', async () => {
    const [example] = setOf(FIRST).logits;
    assert.ok(example);
    const answers = [
      await ask(`${FIRST}*1`, example),
      await ask(FIRST, example, { 'X-Adapter-Strength': '1' }),
      await ask(BASE, example, { 'X-Adapter-Id': FIRST, 'X-Adapter-Strength': '1.0' }),
    ];
    for (const { logits, served } of answers) {
      assert.ok(isClose(logits, example.logits));
      assert.match(served ?? '', new RegExp(`^${FIRST}@[0-9a-f]+$`));
    }
  });

  test('between them the answer moves', async () => {
    const example = exampleOf(FIRST);
    const base = (await ask(BASE, example)).logits;
    const far = async (model: string) => {
      const { logits } = await ask(model, example);
      return Math.max(...logits.map((value, i) => Math.abs(value - (base[i] ?? NaN))));
    };
    const [quarter, half, whole] = [await far(`${FIRST}*0.25`), await far(`${FIRST}*0.5`), await far(FIRST)];
    assert.ok(quarter > 0 && quarter < half && half < whole, `${quarter} ${half} ${whole}`);
  });

  test('rows of several selections in flight at once answer as they do alone', async () => {
    const example = exampleOf(FIRST);
    const models = [
      BASE,
      FIRST,
      `${FIRST}*0.5`,
      `${FIRST}+${SECOND}`,
      `${SECOND}+${FIRST}`,
      `${FIRST}*0.5+${SECOND}`,
      TENANTS.join('+'),
    ];
    const alone: Float32Array[] = [];
    for (const model of models) alone.push((await ask(model, example)).logits);
    const mixed = await Promise.all(
      Array.from({ length: 5 }, () => models)
        .flat()
        .map((model) => ask(model, example)),
    );
    for (const [i, { logits, served }] of mixed.entries()) {
      const model = models[i % models.length] ?? '';
      assert.ok(isClose(logits, [...(alone[i % models.length] ?? [])]), model);
      assert.equal(served?.split('@')[0], model.replace('*0.5', ''));
    }
    const distinct = new Set(alone.map((logits) => logits.join()));
    assert.ok(distinct.size >= 5, 'they are not one and the same');
  });

  test('refused as the request’s fault', async () => {
    const { input_ids: ids } = exampleOf('base');
    const refusals: [string, Record<string, string>, number][] = [
      [`${FIRST}+nobody`, {}, 404],
      [`${FIRST}+${BASE}`, {}, 400],
      [`${FIRST}+`, {}, 400],
      [`${FIRST}*strong`, {}, 400],
      [`${FIRST}*11`, {}, 400],
      [`${FIRST}*0.5`, { 'X-Adapter-Strength': '0.5' }, 400],
      [BASE, { 'X-Adapter-Strength': '0.5' }, 400],
    ];
    for (const [model, headers, status] of refusals) {
      const answer = await tryInfer(server.url, { model, rows: [ids], headers });
      assert.equal(answer.status, status, model);
    }
  });
});
