/**
 * Property: whatever chain of linear layers a graph is, in whatever forms, and whatever adapters of whatever block
 * sizes are mixed in whatever batches, the answers equal the float64 reference.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { AdapterOperands, BatchItem } from '#dist/types.js';
import { gelu as referenceGelu, linearSite, relativeError } from '../reference/linear-site.js';
import { at } from '../support/at.js';
import { temporaryFolder } from '../support/temp-folder.js';
import { adapter, moduleOperands } from '../support/tiny-adapters.js';
import type { Brings } from '../support/tiny-adapters.js';
import {
  ELEM,
  gelu,
  linear,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
  writeModel,
} from '../support/tiny-models.js';
import type { LinearLayer, ModelProto, NodeProto, TensorProto } from '../support/tiny-models.js';
import { floats, start } from './harness.js';

type Activation = 'none' | 'tanh' | 'gelu' | 'relu';

interface Step {
  readonly form: 'MatMul' | 'MatMulAdd' | 'Gemm' | 'GemmNoBias';
  readonly transB: 0 | 1;
  readonly width: number;
  readonly activation: Activation;
}

interface Chain {
  readonly inputWidth: number;
  /** Axes between batch and features: Gemm takes none. */
  readonly inner: readonly number[];
  readonly steps: readonly Step[];
}

interface Case {
  readonly chain: Chain;
  /** Per adapter and layer: what it brings, block sizes as indices into the divisors of the width. */
  readonly adapters: readonly (readonly (BringsChoice | null)[])[];
  /** Batches of items: adapter index (beyond the last: the base) and rows. */
  readonly batches: readonly (readonly { readonly who: number; readonly rows: number }[])[];
}

interface BringsChoice {
  readonly rotation: number | null;
  readonly outputRotation: number | null;
  readonly scale: boolean;
  readonly bias: boolean;
  readonly weight: boolean;
}

const LAYERS = 4;
const widths = fc.constantFrom(6, 8, 12, 16);
const activations = fc.constantFrom<Activation>('none', 'tanh', 'gelu', 'relu');

const chains: fc.Arbitrary<Chain> = fc.constantFrom<readonly number[]>([], [3], [2, 3]).chain((inner) =>
  fc.record({
    inner: fc.constant(inner),
    inputWidth: widths,
    steps: fc.array(
      fc.record({
        form: fc.constantFrom<Step['form']>(
          ...(inner.length === 0
            ? (['MatMul', 'MatMulAdd', 'Gemm', 'GemmNoBias'] as const)
            : (['MatMul', 'MatMulAdd'] as const)),
        ),
        transB: fc.constantFrom<0 | 1>(0, 1),
        width: widths,
        activation: activations,
      }),
      { minLength: 1, maxLength: LAYERS },
    ),
  }),
);

const choice: fc.Arbitrary<BringsChoice> = fc.record({
  rotation: fc.option(fc.nat(9), { freq: 3 }),
  outputRotation: fc.option(fc.nat(9), { freq: 1 }),
  scale: fc.boolean(),
  bias: fc.boolean(),
  weight: fc.nat(4).map((n) => n === 0),
});

const cases: fc.Arbitrary<Case> = fc.record({
  chain: chains,
  adapters: fc.array(fc.array(fc.option(choice), { minLength: LAYERS, maxLength: LAYERS }), {
    minLength: 1,
    maxLength: 4,
  }),
  batches: fc.array(
    fc.array(fc.record({ who: fc.nat(4), rows: fc.integer({ min: 1, max: 3 }) }), {
      minLength: 1,
      maxLength: 6,
    }),
    { minLength: 1, maxLength: 3 },
  ),
});

function divisor(width: number, choiceOf: number): number {
  const divisors = Array.from({ length: width }, (_, i) => i + 1).filter((e) => width % e === 0);
  return at(divisors, choiceOf % divisors.length);
}

function chainModel({ inputWidth, inner, steps }: Chain): { proto: ModelProto; layers: LinearLayer[] } {
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  const layers: LinearLayer[] = [];
  let value = 'x';
  let width = inputWidth;
  for (const [i, step] of steps.entries()) {
    const output = `layer${i}`;
    const gemm = step.form.startsWith('Gemm') ? { gemm: { transB: step.transB } } : {};
    const parts = linear({
      module: `net.${i}`,
      input: value,
      output,
      inFeatures: width,
      outFeatures: step.width,
      form: step.form,
      seed: 10 * i + 1,
      ...gemm,
    });
    nodes.push(...parts.nodes);
    initializers.push(...parts.initializers);
    layers.push(parts.layer);
    value = step.activation === 'none' ? output : `active${i}`;
    if (step.activation === 'gelu') {
      const activation = gelu(output, value);
      nodes.push(...activation.nodes);
      initializers.push(...activation.initializers);
    } else if (step.activation !== 'none') {
      const opType = step.activation === 'tanh' ? 'Tanh' : 'Relu';
      nodes.push(makeNode(opType, [output], [value], { name: value }));
    }
    width = step.width;
  }
  // Not the last layer's own value, so that its layer is no head whose width may change.
  nodes.push(makeNode('Neg', [value], ['y'], { name: 'y' }));
  const leading = ['batch', ...inner];
  return {
    proto: makeModel({
      inputs: [makeValueInfo('x', ELEM.FLOAT, [...leading, inputWidth])],
      outputs: [makeValueInfo('y', ELEM.FLOAT, [...leading, width])],
      nodes,
      initializers,
    }),
    layers,
  };
}

const ACTIVATION: Readonly<Record<Activation, (x: number) => number>> = {
  none: (x) => x,
  tanh: Math.tanh,
  gelu: referenceGelu,
  relu: (x) => Math.max(0, x),
};

function reference(
  { steps }: Chain,
  layers: readonly LinearLayer[],
  x: Float32Array,
  operands: AdapterOperands | undefined,
): Float64Array {
  let value = Float64Array.from(x);
  for (const [i, layer] of layers.entries()) {
    const own = operands?.modules.find((module) => module.module === layer.module);
    value = Float64Array.from(linearSite(value, layer, own), ACTIVATION[at(steps, i).activation]);
  }
  return value.map((element) => -element);
}

function adapterOf(
  index: number,
  choices: readonly (BringsChoice | null)[],
  layers: readonly LinearLayer[],
): AdapterOperands {
  const modules = layers.flatMap((layer, i) => {
    const chosen = choices[i];
    if (!chosen) return [];
    const brings: Brings = {
      scale: chosen.scale,
      // The base must have a bias to be replaced.
      bias: chosen.bias && layer.bias !== null,
      weight: chosen.weight,
      ...(chosen.rotation !== null && { rotation: divisor(layer.inFeatures, chosen.rotation) }),
      ...(chosen.outputRotation !== null && {
        outputRotation: divisor(layer.outFeatures, chosen.outputRotation),
      }),
    };
    return [moduleOperands(layer, brings, 1000 * (index + 1) + i)];
  });
  return adapter(`a${index}@1`, modules);
}

describe('chains of linear layers', () => {
  it('equal the reference for any adapters in any mixture', async () => {
    const root = temporaryFolder();
    let count = 0;
    await fc.assert(
      fc.asyncProperty(cases, async ({ chain, adapters, batches }) => {
        const { proto, layers } = chainModel(chain);
        count += 1;
        const path = writeModel(root, proto, `chain${count}.onnx`);
        const started = await start(path, `${root}/cache`);
        const { executor } = started;
        try {
          assert.deepEqual(executor.opened.lost, []);
          assert.deepEqual(executor.opened.inseparable, []);
          assert.equal(executor.opened.probeError, null);
          const attached = adapters.map((choices, i) => adapterOf(i, choices, layers));
          await started.attach(...attached);
          let seed = 1;
          for (const batch of batches) {
            const perRow = chain.inner.reduce((product, size) => product * size, chain.inputWidth);
            const xs = batch.map(({ rows }) => randomFloats((seed += 1), rows * perRow));
            const items = batch.map(({ who, rows }, i): BatchItem => ({
              adapterKey: attached[who]?.key ?? null,
              rows,
              inputs: new Map([['x', floats([rows, ...chain.inner, chain.inputWidth], at(xs, i))]]),
            }));
            const { outputs } = await executor.run({ items });
            for (const [i, { who }] of batch.entries()) {
              const got = at(outputs, i).get('y')?.data as Float32Array;
              const error = relativeError(got, reference(chain, layers, at(xs, i), attached[who]));
              assert.ok(error <= 1e-5, `item ${i} is off by ${error}`);
            }
          }
        } finally {
          await executor.close();
        }
      }),
      { numRuns: 25, seed: 20261123, endOnFailure: true },
    );
  });
});
