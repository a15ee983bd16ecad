import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseOutputs } from '#dist/protocols/open-inference/index.js';
import { assertRefused, bodyWith, decode, modelOf, modelTaking, open } from './support/requests.js';

const X = '{"name":"x","datatype":"INT32","shape":[1],"data":[1]}';
const MODEL = modelTaking('INT32');

test('id, parameters and outputs are read, unknown fields ignored', () => {
  const envelope = open(
    `{"id":"7","later":[{}],"parameters":{"adapter_id":"acme","strength":0.25,"timeout_ms":250,"mood":"good","nothing":null},` +
      `"inputs":[${X.replace('}', ',"colour":"red"}')}],` +
      `"outputs":[{"name":"states","parameters":{"binary_data":true},"x":1},{"name":"logits"}]}`,
  );
  assert.equal(envelope.id, '7');
  assert.equal(envelope.adapterId, 'acme');
  assert.equal(envelope.strength, 0.25);
  assert.equal(envelope.timeoutMs, 250);
  assert.deepEqual(chooseOutputs(envelope, MODEL), [
    { name: 'states', binary: true },
    { name: 'logits', binary: false },
  ]);
});

test('without outputs all are meant; binary_data_output speaks for those that say nothing', () => {
  assert.deepEqual(chooseOutputs(open(`{"inputs":[${X}]}`), MODEL), [
    { name: 'logits', binary: false },
    { name: 'states', binary: false },
  ]);
  assert.deepEqual(chooseOutputs(open(`{"inputs":[${X}],"outputs":[]}`), MODEL).length, 2);
  const parameters = '"parameters":{"binary_data_output":true}';
  assert.deepEqual(chooseOutputs(open(`{"inputs":[${X}],${parameters}}`), MODEL), [
    { name: 'logits', binary: true },
    { name: 'states', binary: true },
  ]);
  const outputs = '"outputs":[{"name":"logits","parameters":{"binary_data":false}},{"name":"states"}]';
  assert.deepEqual(chooseOutputs(open(`{"inputs":[${X}],${parameters},${outputs}}`), MODEL), [
    { name: 'logits', binary: false },
    { name: 'states', binary: true },
  ]);
});

test('the shorter timeout counts, 0 means none', () => {
  const timeoutOf = (parameters: string) => open(`{"inputs":[${X}],"parameters":{${parameters}}}`).timeoutMs;
  assert.equal(timeoutOf('"timeout":5000'), 5);
  assert.equal(timeoutOf('"timeout":5000,"timeout_ms":3'), 3);
  assert.equal(timeoutOf('"timeout":0'), null);
  assert.equal(timeoutOf(''), null);
});

test('refused: frames that are not as the protocol has them', () => {
  const cases: [string, RegExp][] = [
    ['[]', /must be an object/],
    ['3', /must be an object/],
    ['{}', /inputs is missing/],
    ['{"inputs":{}}', /inputs must be a list/],
    ['{"inputs":[1]}', /inputs\[0\] must be an object/],
    ['{"inputs":[{}]}', /inputs\[0\]\.name/],
    ['{"inputs":[{"name":"x"}]}', /shape must be a list/],
    [`{"id":5,"inputs":[${X}]}`, /id must be a string/],
    [`{"inputs":[${X}],"parameters":3}`, /parameters must be an object/],
    [`{"inputs":[${X}],"parameters":{"p":[1]}}`, /parameters\.p must be a string/],
    [`{"inputs":[${X}],"parameters":{"adapter_id":4}}`, /adapter_id/],
    [`{"inputs":[${X}],"parameters":{"adapter_id":""}}`, /adapter_id/],
    [`{"inputs":[${X}],"parameters":{"strength":"1"}}`, /parameters\.strength must be a number/],
    [`{"inputs":[${X}],"parameters":{"strength":1e999}}`, /parameters\.strength must be a number/],
    [`{"inputs":[${X}],"parameters":{"timeout_ms":-1}}`, /timeout_ms/],
    [`{"inputs":[${X}],"parameters":{"timeout":"soon"}}`, /timeout/],
    [`{"inputs":[${X}],"parameters":{"binary_data_output":1}}`, /binary_data_output/],
    [`{"inputs":[${X},${X}]}`, /"x" is given twice/],
    [`{"inputs":[${X}],"outputs":[3]}`, /outputs\[0\] must be an object/],
    [`{"inputs":[${X}],"outputs":"logits"}`, /outputs must be a list/],
    [`{"inputs":[${X}],"outputs":[{"name":"logits"},{"name":"logits"}]}`, /"logits" is given twice/],
    [`{"inputs":[${Array.from({ length: 1025 }, () => X).join(',')}]}`, /at most 1024/],
  ];
  for (const [body, message] of cases) assertRefused(() => open(body), 'INVALID_REQUEST', message);
});

test('refused: shapes, datatypes and data that no model could take', () => {
  assertRefused(() => open(bodyWith('INT32', Array<number>(9).fill(1), '[1]')), 'WRONG_SHAPE', /at most 8/);
  for (const size of [-1, 1.5, '1', null, 2 ** 60]) {
    assertRefused(() => open(bodyWith('INT32', [size], '[1]')), 'WRONG_SHAPE', /sizes in shape/);
  }
  for (const datatype of ['BF16', 'int32', '']) {
    assertRefused(() => open(bodyWith(datatype, [1], '[1]')), 'WRONG_DATATYPE', /"x"/);
  }
  assertRefused(
    () => open('{"inputs":[{"name":"x","shape":[1],"data":[1]}]}'),
    'WRONG_DATATYPE',
    /found none/,
  );
  assertRefused(
    () => open(X.replace('"data":[1]', '"d":1').replace(/^/, '{"inputs":[') + ']}'),
    'WRONG_DATA',
  );
});

test('refused: extensions that are not offered', () => {
  const shared = X.replace('"data"', '"parameters":{"shared_memory_region":"r"},"data"');
  assertRefused(() => open(`{"inputs":[${shared}]}`), 'UNSUPPORTED', /shared memory/);
  const outputs = '[{"name":"logits","parameters":{"classification":2}}]';
  assertRefused(() => open(`{"inputs":[${X}],"outputs":${outputs}}`), 'UNSUPPORTED', /classification/);
});

test('refused: tensors that the model does not take or give', () => {
  const y = X.replace('"x"', '"y"');
  assertRefused(() => decode(MODEL, `{"inputs":[${X},${y}]}`), 'UNKNOWN_INPUT', /"y".*: x/);
  assertRefused(() => decode(MODEL, '{"inputs":[]}'), 'MISSING_INPUT', /"x"/);
  assertRefused(
    () => decode(modelTaking('INT64'), `{"inputs":[${X}]}`),
    'WRONG_DATATYPE',
    /INT64, found INT32/,
  );
  assertRefused(
    () => chooseOutputs(open(`{"inputs":[${X}],"outputs":[{"name":"probs"}]}`), MODEL),
    'UNKNOWN_OUTPUT',
    /"probs".*: logits, states/,
  );
});

test('refused: another rank or fixed size than the model has', () => {
  const model = modelTaking('INT32', ['batch', 2]);
  assertRefused(() => decode(model, bodyWith('INT32', [2], '[1,2]')), 'WRONG_SHAPE', /1 axes instead of 2/);
  assertRefused(() => decode(model, bodyWith('INT32', [1, 3], '[1,2,3]')), 'WRONG_SHAPE', /axis 1 must be 2/);
});

test('names from the request are cut and escaped in messages', () => {
  const name = 'a"\n'.repeat(100);
  const body = JSON.stringify({ inputs: [{ name, datatype: 'INT32', shape: [1], data: [1] }] });
  assertRefused(() => decode(modelOf([]), body), 'UNKNOWN_INPUT', /^Input "(?:a\\"\\n)+a\\"…" is not one/);
});
