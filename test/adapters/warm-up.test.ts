import { test } from 'node:test';
import { warmUp } from '#dist/adapters/warm-up.js';

test('the synthetic adapters of the warm-up are good ones', () => {
  warmUp();
});
