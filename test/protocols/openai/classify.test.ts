import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { PapillonError } from '#dist/errors.js';
import {
  MAX_CLASSIFY_CHARACTERS,
  MAX_CLASSIFY_INPUTS,
  decodeClassifyRequest,
  encodeClassifyResponse,
} from '#dist/protocols/openai/index.js';

describe('decodeClassifyRequest', () => {
  it('takes one text or a list of texts', () => {
    assert.deepEqual(decodeClassifyRequest({ input: 'a' }), { inputs: ['a'] });
    assert.deepEqual(decodeClassifyRequest({ input: ['a', ''] }), { inputs: ['a', ''] });
  });

  it('takes model, adapter id and top_k, ignores what it does not know, reads null as absent', () => {
    assert.deepEqual(
      decodeClassifyRequest({
        input: 'a',
        model: 'acme',
        top_k: 2,
        parameters: { adapter_id: 'b', other: 1 },
        user: 'u',
      }),
      { inputs: ['a'], model: 'acme', adapterId: 'b', topK: 2 },
    );
    assert.deepEqual(decodeClassifyRequest({ input: 'a', model: null, top_k: null, parameters: null }), {
      inputs: ['a'],
    });
  });

  it('takes a strength, from either place or from both where they agree', () => {
    const bodies = [
      { strength: 0.5 },
      { parameters: { strength: 0.5 } },
      { strength: 0.5, parameters: { strength: 0.5 } },
    ];
    for (const body of bodies) {
      assert.deepEqual(decodeClassifyRequest({ input: 'a', ...body }), { inputs: ['a'], strength: 0.5 });
    }
    assert.equal(decodeClassifyRequest({ input: 'a', strength: 0 }).strength, 0);
    assert.throws(
      () => decodeClassifyRequest({ input: 'a', strength: 0.5, parameters: { strength: 0.4 } }),
      (error: unknown) => error instanceof PapillonError && error.code === 'CONFLICTING_ADAPTERS',
    );
  });

  it('freezes what it hands inward', () => {
    const request = decodeClassifyRequest({ input: ['a'] });
    assert.ok(Object.isFrozen(request) && Object.isFrozen(request.inputs));
  });

  const rejections: [string, unknown, RegExp][] = [
    ['a body that is null', null, /JSON object/],
    ['a body that is a list', [], /JSON object/],
    ['a missing input', {}, /^input must be a string or a list of strings$/],
    ['an input of another type', { input: 3 }, /^input must be a string or a list of strings$/],
    ['an empty list', { input: [] }, /^input is an empty list/],
    ['a list holding another type', { input: ['a', 3] }, /^input\[1\] must be a string$/],
    ['too many texts', { input: Array(MAX_CLASSIFY_INPUTS + 1).fill('a') }, /more than 1024 texts/],
    ['too long a text', { input: ['a', 'x'.repeat(MAX_CLASSIFY_CHARACTERS + 1)] }, /^input\[1\] is longer/],
    ['an empty model', { input: 'a', model: '' }, /^model must not be empty/],
    ['a model of another type', { input: 'a', model: 7 }, /^model must be a string/],
    ['parameters of another type', { input: 'a', parameters: 7 }, /^parameters must be an object/],
    [
      'an adapter id of another type',
      { input: 'a', parameters: { adapter_id: 7 } },
      /^parameters\.adapter_id/,
    ],
    ['a strength of another type', { input: 'a', strength: '0.5' }, /^strength must be a number/],
    [
      'a strength of another type among the parameters',
      { input: 'a', parameters: { strength: true } },
      /^parameters\.strength must be a number/,
    ],
    ['a fractional top_k', { input: 'a', top_k: 0.5 }, /^top_k must be a whole number/],
    ['a top_k of zero', { input: 'a', top_k: 0 }, /^top_k must be a whole number/],
    ['a top_k of another type', { input: 'a', top_k: '3' }, /^top_k must be a whole number/],
  ];
  for (const [name, body, message] of rejections) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => decodeClassifyRequest(body),
        (error: unknown) =>
          error instanceof PapillonError && error.code === 'INVALID_REQUEST' && message.test(error.message),
      );
    });
  }

  it('never throws anything but INVALID_REQUEST, whatever the JSON', () => {
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.record({ input: fc.jsonValue() })), (body) => {
        try {
          return decodeClassifyRequest(body).inputs.length >= 1;
        } catch (error) {
          return error instanceof PapillonError && error.code === 'INVALID_REQUEST';
        }
      }),
    );
  });
});

describe('encodeClassifyResponse', () => {
  const results = [
    [
      { label: 'low', score: 0.2 },
      { label: 'high', score: 0.7 },
      { label: 'mid', score: 0.1 },
    ],
    [
      { label: 'first', score: 0.5 },
      { label: 'second', score: 0.5 },
    ],
  ];

  it('puts the best label first and keeps the order of ties', () => {
    assert.deepEqual(encodeClassifyResponse('acme', results), {
      object: 'list',
      model: 'acme',
      data: [
        {
          index: 0,
          label: 'high',
          score: 0.7,
          scores: [
            { label: 'high', score: 0.7 },
            { label: 'low', score: 0.2 },
            { label: 'mid', score: 0.1 },
          ],
        },
        {
          index: 1,
          label: 'first',
          score: 0.5,
          scores: [
            { label: 'first', score: 0.5 },
            { label: 'second', score: 0.5 },
          ],
        },
      ],
    });
  });

  it('cuts scores to top_k, which may exceed the number of labels', () => {
    assert.deepEqual(encodeClassifyResponse('m', results, 1).data[0]?.scores, [
      { label: 'high', score: 0.7 },
    ]);
    assert.equal(encodeClassifyResponse('m', results, 99).data[0]?.scores.length, 3);
  });

  it('refuses a result without labels', () => {
    assert.throws(
      () => encodeClassifyResponse('m', [[]]),
      (error: unknown) => error instanceof PapillonError && error.code === 'INTERNAL',
    );
  });
});
