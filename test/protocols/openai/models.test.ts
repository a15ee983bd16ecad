import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ERROR_CODES, PapillonError } from '#dist/errors.js';
import type { ErrorCode } from '#dist/errors.js';
import type { AdapterInfo, AdapterState, ModelDescription } from '#dist/types.js';
import { encodeModelList, encodeOpenAiError } from '#dist/protocols/openai/index.js';

const model: ModelDescription = {
  id: 'router',
  digest: 'd',
  inputs: [],
  outputs: [],
  layout: { stackable: true, paddedAxis: null },
  modules: [],
};

function adapter(id: string, state: AdapterState): AdapterInfo {
  return {
    id,
    version: null,
    state,
    tier: 'catalogue',
    kind: null,
    mode: 'auto',
    pinned: false,
    strength: 1,
    labels: null,
    modules: [],
    bytes: null,
    orthogonalityResidual: null,
    requests: 0,
    lastUsedAt: null,
    addedAt: 1_700_000_000_999,
    error: null,
  };
}

describe('encodeModelList', () => {
  it('lists the base without parent, then the adapters with the base as parent', () => {
    assert.deepEqual(encodeModelList(model, [adapter('acme', 'available')], 1_600_000_000.5), {
      object: 'list',
      data: [
        {
          id: 'router',
          object: 'model',
          created: 1_600_000_000,
          owned_by: 'papillon',
          root: 'router',
          parent: null,
        },
        {
          id: 'acme',
          object: 'model',
          created: 1_700_000_000,
          owned_by: 'papillon',
          root: 'router',
          parent: 'router',
        },
      ],
    });
  });

  it('tells the longest input where it is known', () => {
    assert.deepEqual(
      encodeModelList(model, [adapter('acme', 'ready')], 0, 512).data.map((entry) => entry.max_model_len),
      [512, 512],
    );
  });

  it('leaves out adapters that no request can use', () => {
    const states: AdapterState[] = ['available', 'loading', 'ready', 'failed', 'unloaded'];
    const list = encodeModelList(
      model,
      states.map((state) => adapter(state, state)),
      0,
    );
    assert.deepEqual(
      list.data.map((entry) => entry.id),
      ['router', 'available', 'loading', 'ready'],
    );
  });
});

describe('encodeOpenAiError', () => {
  it('names the field for an unknown model', () => {
    assert.deepEqual(encodeOpenAiError(new PapillonError('UNKNOWN_MODEL', 'No model "x"')), {
      error: { message: 'No model "x"', type: 'not_found_error', param: 'model', code: 'UNKNOWN_MODEL' },
    });
  });

  const types: [ErrorCode, string][] = [
    ['INVALID_REQUEST', 'invalid_request_error'],
    ['UNAUTHORIZED', 'authentication_error'],
    ['FORBIDDEN', 'permission_error'],
    ['NOT_FOUND', 'not_found_error'],
    ['ADAPTER_NOT_FINITE', 'invalid_request_error'],
    ['QUEUE_FULL', 'rate_limit_error'],
    ['NOT_READY', 'server_error'],
    ['INTERNAL', 'server_error'],
  ];
  for (const [code, type] of types) {
    it(`classes ${code} as ${type}`, () => {
      assert.equal(encodeOpenAiError(new PapillonError(code, 'm')).error.type, type);
    });
  }

  it('has a type for every code', () => {
    for (const code of Object.keys(ERROR_CODES) as ErrorCode[]) {
      assert.match(encodeOpenAiError(new PapillonError(code, 'm')).error.type, /_error$/);
    }
  });
});
