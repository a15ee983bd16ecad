import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { classify, infer, tryInfer } from './client.js';
import { BASE, SETS, exampleOf, heldOut, isClose, labelOf } from './demo.js';
import type { RunningServer } from './server.js';
import { TENANTS, Workspace } from './workspace.js';

const TEXTS_A_CALL = 50;

describe('the demo answers as PEFT does', () => {
  const workspace = new Workspace();
  let server: RunningServer;
  before(async () => {
    server = await workspace.start();
  });
  after(() => workspace.close());

  test('every tenant and the base are covered', () => {
    const models = [...SETS.values()].map(({ model }) => model);
    assert.deepEqual(models.sort(), [...TENANTS, BASE].sort());
  });

  for (const [name, { model, logits, accuracy }] of SETS) {
    for (const binary of [false, true]) {
      test(`${name}: every row alone, ${binary ? 'binary' : 'JSON'}`, async () => {
        for (const example of logits) {
          const [got] = await infer(server.url, { model, rows: [example.input_ids], binary });
          assert.ok(got && isClose(got, example.logits), example.text);
        }
      });

      test(`${name}: all rows in one request, ${binary ? 'binary' : 'JSON'}`, async () => {
        const rows = logits.map(({ input_ids }) => input_ids);
        const got = await infer(server.url, { model, rows, binary });
        assert.equal(got.length, logits.length);
        for (const [i, example] of logits.entries()) {
          assert.ok(isClose(got[i] ?? [], example.logits), example.text);
        }
      });
    }

    test(`${name}: padding changes nothing`, async () => {
      const [example] = logits;
      assert.ok(example);
      for (const length of [example.input_ids.length + 1, 64, 128]) {
        const [got] = await infer(server.url, { model, rows: [example.input_ids], length });
        assert.ok(got && isClose(got, example.logits), `padded to ${length}`);
      }
    });

    test(`${name}: /v1/classify names the label of the greatest logit`, async () => {
      const got = await classify(
        server.url,
        model,
        logits.map(({ text }) => text),
      );
      assert.deepEqual(
        got,
        logits.map((example) => labelOf(example.logits)),
      );
    });

    test(`${name}: accuracy on the held-out texts equals PyTorch's`, async () => {
      assert.equal(await accuracyOf(server, model, name), accuracy);
    });
  }

  test('the adapter may be named by path, parameter or header', async () => {
    const [tenant = ''] = TENANTS;
    const { input_ids: ids, logits } = exampleOf(tenant);
    const asked = { rows: [ids], model: BASE, headers: { 'X-Adapter-Id': tenant } };
    const answer = await tryInfer(server.url, asked);
    assert.equal(answer.status, 200);
    assert.equal(answer.modelName, tenant);
    assert.ok(isClose(answer.logits[0] ?? [], logits));
    const other = await tryInfer(server.url, { ...asked, model: TENANTS[1] ?? '' });
    assert.equal(other.status, 400);
    assert.match(other.error ?? '', new RegExp(tenant));
  });
});

async function accuracyOf(server: RunningServer, model: string, set: string): Promise<number> {
  const texts = heldOut(set);
  let correct = 0;
  for (let start = 0; start < texts.length; start += TEXTS_A_CALL) {
    const part = texts.slice(start, start + TEXTS_A_CALL);
    const got = await classify(
      server.url,
      model,
      part.map(({ text }) => text),
    );
    correct += part.filter(({ label }, i) => got[i] === label).length;
  }
  return correct / texts.length;
}
