import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PapillonError } from '#dist/errors.js';
import type { ErrorCode } from '#dist/errors.js';
import { checkInputs } from '#dist/engine/check-inputs.js';
import type { Datatype, ModelDescription, Tensor } from '#dist/types.js';

const MODEL: Pick<ModelDescription, 'inputs' | 'layout'> = {
  inputs: [
    { name: 'ids', datatype: 'INT32', dims: ['batch', 'sequence'] },
    { name: 'mask', datatype: 'INT32', dims: ['batch', 'sequence'] },
    { name: 'extra', datatype: 'FP32', dims: ['rows', 3, ''] },
  ],
  layout: { stackable: true, paddedAxis: 'sequence' },
};

function tensor(shape: readonly number[], datatype: Datatype = 'INT32', elements?: number): Tensor {
  const count =
    elements ??
    Math.max(
      0,
      shape.reduce((product, size) => product * size, 1),
    );
  return { datatype, shape, data: datatype === 'FP32' ? new Float32Array(count) : new Int32Array(count) };
}

const GOOD: Readonly<Record<string, Tensor>> = {
  ids: tensor([2, 5]),
  mask: tensor([2, 5]),
  extra: tensor([2, 3, 7], 'FP32'),
};

function check(change: Readonly<Record<string, Tensor>>, model = MODEL): void {
  checkInputs(model, new Map(Object.entries({ ...GOOD, ...change })));
}

const REFUSED: readonly {
  readonly what: string;
  readonly change: Readonly<Record<string, Tensor>>;
  readonly code: ErrorCode;
  readonly says: RegExp;
}[] = [
  {
    what: 'an unknown input',
    change: { idz: tensor([2, 5]) },
    code: 'UNKNOWN_INPUT',
    says: /"idz".*ids, mask, extra/,
  },
  {
    what: 'another datatype',
    change: { ids: tensor([2, 5], 'INT64') },
    code: 'WRONG_DATATYPE',
    says: /"ids".*INT32.*INT64/,
  },
  {
    what: 'another rank',
    change: { ids: tensor([2, 5, 1]) },
    code: 'WRONG_SHAPE',
    says: /"ids".*\[2, 5, 1\].*\[batch, sequence\].*2 axes/,
  },
  {
    what: 'another fixed size',
    change: { extra: tensor([2, 4, 7], 'FP32') },
    code: 'WRONG_SHAPE',
    says: /"extra".*axis 1 must be 3/,
  },
  {
    what: 'a size that is no whole number',
    change: { extra: tensor([2, 3, 1.5], 'FP32', 9) },
    code: 'WRONG_SHAPE',
    says: /"extra".*axis 2/,
  },
  {
    what: 'a negative size',
    change: { extra: tensor([2, 3, -1], 'FP32', 6) },
    code: 'WRONG_SHAPE',
    says: /"extra".*axis 2/,
  },
  {
    what: 'elements that do not fill the shape',
    change: { mask: tensor([2, 5], 'INT32', 9) },
    code: 'WRONG_DATA',
    says: /"mask" has 9.*needs 10/,
  },
  {
    what: 'ragged lengths',
    change: { mask: tensor([2, 6]) },
    code: 'WRONG_SHAPE',
    says: /"ids" and "mask".*"sequence": 5 and 6/,
  },
  {
    what: 'a row too few, by the axis name',
    change: { mask: tensor([1, 5]) },
    code: 'WRONG_SHAPE',
    says: /"ids" and "mask".*: 2 and 1/,
  },
  {
    what: 'a row too few, by its place',
    change: { extra: tensor([3, 3, 7], 'FP32') },
    code: 'WRONG_SHAPE',
    says: /"ids" and "extra".*axis 0.*: 2 and 3/,
  },
  { what: 'no rows', change: { ids: tensor([0, 5]) }, code: 'WRONG_SHAPE', says: /"ids".*at least one row/ },
  {
    what: 'no tokens',
    change: { ids: tensor([2, 0]) },
    code: 'WRONG_SHAPE',
    says: /"ids".*"sequence" must be at least 1/,
  },
];

for (const { what, change, code, says } of REFUSED) {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => {
        check(change);
      },
      (error) => {
        assert.ok(error instanceof PapillonError);
        assert.equal(error.code, code);
        assert.match(error.message, says);
        return true;
      },
    );
  });
}

test('refuses a missing input', () => {
  assert.throws(
    () => {
      checkInputs(MODEL, new Map([['ids', tensor([2, 5])]]));
    },
    (error) =>
      error instanceof PapillonError && error.code === 'MISSING_INPUT' && error.message.includes('"mask"'),
  );
});

test('accepts what agrees; unnamed axes are free; unstackable models may differ on axis 0', () => {
  check({});
  check({ extra: tensor([2, 3, 0], 'FP32') });
  check({ extra: tensor([9, 3, 1], 'FP32') }, { ...MODEL, layout: { stackable: false, paddedAxis: null } });
});
