import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { infer, request } from './client.js';
import { exampleOf, isClose } from './demo.js';
import { scrape } from './prometheus.js';
import { Workspace } from './workspace.js';

const COUNT = 2000;
const PAGE = 300;

interface Page {
  readonly data: readonly { readonly id: string }[];
  readonly has_more: boolean;
}

describe(`a directory of ${COUNT} adapters`, () => {
  const workspace = new Workspace([]);
  after(() => workspace.close());

  test('is served, page by page and each by its name, loading only what is asked for', async () => {
    const names = Array.from({ length: COUNT }, (_, i) => `tenant-${String(i).padStart(4, '0')}`);
    workspace.linkCopies('acme-retail', names);
    const { url } = await workspace.start();

    const listed: string[] = [];
    for (let more = true; more;) {
      const after = listed.length === 0 ? '' : `&after=${listed.at(-1) ?? ''}`;
      const { body } = await request<Page>(url, 'GET', `/v1/adapters?limit=${PAGE}${after}`);
      listed.push(...body.data.map(({ id }) => id));
      more = body.has_more;
    }
    assert.deepEqual(listed, names);

    const { input_ids: ids, logits } = exampleOf('acme-retail');
    for (const model of [names[0], names[1234], names[COUNT - 1]]) {
      assert.ok(model !== undefined);
      const [got] = await infer(url, { model, rows: [ids] });
      assert.ok(isClose(got ?? [], logits), model);
    }
    const counted = await scrape(url);
    assert.equal(counted.sum('papillon_adapters', { tier: 'catalogue' }), COUNT);
    assert.equal(counted.sum('papillon_adapters', { tier: 'host' }), 3);
  });
});
