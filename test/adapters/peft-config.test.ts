/** What adapter_config.json may say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePeftConfig } from '#dist/adapters/peft-config.js';
import { refusal } from './support.js';

const parse = (config: unknown) => parsePeftConfig(JSON.stringify(config));

test('unknown keys are ignored, those of Object.prototype too', () => {
  const text =
    '{"peft_type": "BOFT", "__proto__": {"boft_block_size": 7}, "constructor": 1, "new_thing": [1]}';
  const config = parsePeftConfig(text);
  assert.equal(config.peft_type, 'BOFT');
  assert.equal('boft_block_size' in config ? config.boft_block_size : undefined, undefined);
  assert.equal(Object.getPrototypeOf(config), Object.prototype);
});

test('what is no JSON object', () => {
  assert.throws(() => parsePeftConfig('{"peft_type":'), refusal('ADAPTER_CONFIG_INVALID', 'JSON'));
  for (const config of [[], null, 'BOFT', 7]) {
    assert.throws(() => parse(config), refusal('ADAPTER_CONFIG_INVALID', 'top level'));
  }
});

test('kinds that are not served name those that are', () => {
  for (const type of ['LORA', 'IA3', 'NOSUCH', '__proto__', '']) {
    assert.throws(() => parse({ peft_type: type }), refusal('ADAPTER_TYPE_UNSUPPORTED', 'BOFT and OFT'));
  }
  assert.throws(() => parse({}), refusal('ADAPTER_CONFIG_INVALID', 'peft_type'));
  assert.throws(() => parse({ peft_type: null }), refusal('ADAPTER_CONFIG_INVALID', 'peft_type'));
});

test('exactly one of block size and number, as PEFT demands', () => {
  for (const [size, num] of [
    [0, 0],
    [4, 16],
  ]) {
    const config = { peft_type: 'BOFT', boft_block_size: size, boft_block_num: num };
    assert.throws(() => parse(config), refusal('ADAPTER_CONFIG_INVALID', 'boft_block_size'));
  }
  assert.doesNotThrow(() => parse({ peft_type: 'BOFT', boft_block_size: 4, boft_block_num: 0 }));
  assert.doesNotThrow(() => parse({ peft_type: 'BOFT' }));
});

test('fields of the wrong type are named', () => {
  for (const [field, value] of [
    ['boft_block_size', -4],
    ['boft_block_size', 1.5],
    ['modules_to_save', 'classifier'],
    ['target_modules', 7],
    ['bias', true],
  ] as const) {
    assert.throws(
      () => parse({ peft_type: 'BOFT', [field]: value }),
      refusal('ADAPTER_CONFIG_INVALID', field),
    );
  }
});
