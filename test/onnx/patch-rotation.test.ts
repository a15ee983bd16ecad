/** Rotations in front of convolutions over patches, against the kernel with the adapter merged in. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as ort from 'onnxruntime-node';
import { cayley, mergeWeight } from '#dist/math/index.js';
import { findModules } from '#dist/onnx/modules.js';
import { locateSites } from '#dist/onnx/locate.js';
import type { OnnxModel } from '#dist/onnx/model.js';
import { LANES_INPUT, blocksInput, compilePlan, operandInput } from '#dist/onnx/plan.js';
import type { ShapedSite } from '#dist/onnx/plan.js';
import {
  ELEM,
  floatTensor,
  intsAttribute,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
} from '../support/tiny-models.js';
import { asModel, runModel } from './plan-harness.js';

const [N, C, K] = [3, 2, 2];
const D = C * K * K;
const E = 4;
const WEIGHT = randomFloats(1, N * D);
const BIAS = randomFloats(2, N);

function convolution(weight: Float32Array, strides: readonly number[], pads?: readonly number[]): OnnxModel {
  const attributes = [intsAttribute('strides', strides), ...(pads ? [intsAttribute('pads', pads)] : [])];
  return asModel(
    makeModel({
      nodes: [makeNode('Conv', ['x', 'w', 'b'], ['y'], { name: '/patches/projection/Conv', attributes })],
      inputs: [makeValueInfo('x', ELEM.FLOAT, ['batch', C, 'height', 'width'])],
      outputs: [makeValueInfo('y', ELEM.FLOAT, ['batch', N, 'h', 'w'])],
      initializers: [floatTensor('w', [N, C, K, K], weight), floatTensor('b', [N], BIAS)],
    }),
  );
}

function sitesOf(model: OnnxModel): ShapedSite[] {
  const { sites } = locateSites(model, findModules(model));
  return sites.map((site) => ({ ...site, rank: 4, separable: true, half: false }));
}

function rotation(seed: number): Float32Array {
  return Float32Array.from(cayley(randomFloats(seed, (D / E) * E * E, 0.5), D / E, E));
}

describe('convolutions over patches', () => {
  for (const [height, width] of [
    [4, 6],
    [5, 7],
  ] as const) {
    it(`rotates two lanes of images of ${height} × ${width}`, async () => {
      const model = convolution(WEIGHT, [K, K]);
      const sites = sitesOf(model);
      assert.equal(sites[0]?.isPatches, true);
      const module = 'patches.projection';
      const plan = compilePlan(model, sites, new Map([[module, new Set(['rotation', 'scale'] as const)]]));
      const lanes = [rotation(3), rotation(4)];
      const scales = [randomFloats(5, N), randomFloats(6, N)];
      const size = C * height * width;
      const x = randomFloats(7, 2 * size);
      const stack = (parts: readonly Float32Array[], shape: readonly number[]): ort.Tensor =>
        new ort.Tensor('float32', Float32Array.from(parts.flatMap((part) => [...part])), [2, ...shape]);
      const { y } = await runModel(plan, {
        x: new ort.Tensor('float32', x, [2, C, height, width]),
        [LANES_INPUT]: new ort.Tensor('int64', [2n], [1]),
        [blocksInput(D)]: new ort.Tensor('int64', [BigInt(D / E), BigInt(E)], [2]),
        [operandInput('rotation', module)]: stack(lanes, [D / E, E, E]),
        [operandInput('scale', module)]: stack(scales, [1, N]),
      });
      const got = y?.data as Float32Array;
      for (const lane of [0, 1]) {
        const blocks = { size: E, data: lanes[lane] as Float32Array };
        const merged = mergeWeight(WEIGHT, N, blocks, scales[lane] as Float32Array);
        const image = new ort.Tensor('float32', x.slice(lane * size, (lane + 1) * size), [
          1,
          C,
          height,
          width,
        ]);
        const want = (await runModel(convolution(merged, [K, K]), { x: image })).y?.data as Float32Array;
        const own = got.subarray((lane * got.length) / 2, ((lane + 1) * got.length) / 2);
        assert.equal(own.length, want.length);
        for (const [i, value] of want.entries()) assert.ok(Math.abs((own[i] as number) - value) < 1e-5);
      }
    });
  }

  it('leaves overlapping or padded ones to merging', () => {
    assert.equal(sitesOf(convolution(WEIGHT, [1, 1]))[0]?.isPatches, false);
    assert.equal(sitesOf(convolution(WEIGHT, [K, K], [1, 1, 1, 1]))[0]?.isPatches, false);
  });
});
