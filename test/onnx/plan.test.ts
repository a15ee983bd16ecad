/** Plans of single sites in every form, each operand alone and together, against the float64 reference. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as ort from 'onnxruntime-node';
import { compilePlan, operandInput } from '#dist/onnx/plan.js';
import type { OperandKind } from '#dist/onnx/plan.js';
import type { ModuleOperands } from '#dist/types.js';
import { gelu as referenceGelu, linearSite, relativeError } from '../reference/linear-site.js';
import { at } from '../support/at.js';
import { moduleOperands } from '../support/tiny-adapters.js';
import type { Brings } from '../support/tiny-adapters.js';
import {
  ELEM,
  gelu,
  int64Tensor,
  intAttributeOf,
  linear,
  makeModel,
  makeNode,
  makeValueInfo,
  randomFloats,
  stringAttributeOf,
} from '../support/tiny-models.js';
import type { GemmOptions, LinearOptions, ModelProto, NodeProto } from '../support/tiny-models.js';
import { asModel, laneFeeds, runModel, runPlan, sitesOf } from './plan-harness.js';
import type { BaseParameters } from './plan-harness.js';

const D = 12;
const N = 10;
const MODULE = 'net.fc';
const TOLERANCE = 1e-5;

interface Form {
  readonly name: string;
  readonly options: Pick<LinearOptions, 'form' | 'gemm'>;
  /** Leading sizes of x behind the batch axis. */
  readonly inner: readonly number[];
  /** Rank at the site itself. */
  readonly rank: number;
  readonly activation?: 'gelu' | 'tanh';
  /** The tanh is inside the Gemm, as an optimiser leaves it. */
  readonly fused?: boolean;
  /** Gemm sees [B·T, d] between two Reshapes, as in GPT-2. */
  readonly flattened?: boolean;
}

const rank2 = { inner: [], rank: 2 };
const rank3 = { inner: [3], rank: 3 };
const rank4 = { inner: [2, 3], rank: 4 };

const FORMS: readonly Form[] = [
  { name: 'MatMul 2-D', options: { form: 'MatMul' }, ...rank2 },
  { name: 'MatMul 3-D', options: { form: 'MatMul' }, ...rank3 },
  { name: 'MatMul 4-D', options: { form: 'MatMul' }, ...rank4 },
  { name: 'MatMul + Add 2-D', options: { form: 'MatMulAdd' }, ...rank2 },
  { name: 'MatMul + Add 3-D', options: { form: 'MatMulAdd' }, ...rank3 },
  { name: 'MatMul + Add 4-D', options: { form: 'MatMulAdd' }, ...rank4 },
  { name: 'MatMul + Add + Gelu', options: { form: 'MatMulAdd' }, ...rank3, activation: 'gelu' },
  { name: 'Gemm', options: { form: 'Gemm' }, ...rank2 },
  { name: 'Gemm without bias', options: { form: 'GemmNoBias' }, ...rank2 },
  { name: 'Gemm + Tanh', options: { form: 'Gemm' }, ...rank2, activation: 'tanh' },
  { name: 'FusedGemm', options: { form: 'Gemm' }, ...rank2, activation: 'tanh', fused: true },
  {
    name: 'Gemm on flattened tokens',
    options: { form: 'Gemm', gemm: { transB: 0 } },
    inner: [3],
    rank: 2,
    flattened: true,
  },
];

/** x, reshaped for the site if need be, the layer, its activation, and y of x's leading sizes. */
function siteModel(form: Form): { proto: ModelProto; base: BaseParameters; gemm: GemmOptions } {
  const product = form.activation && !form.fused ? 'product' : 'site';
  const transA = form.options.gemm?.transA === 1;
  const parts = linear({
    module: MODULE,
    input: form.flattened || transA ? 'rows' : 'x',
    output: product,
    inFeatures: D,
    outFeatures: N,
    seed: 7,
    ...form.options,
  });
  const nodes: NodeProto[] = [];
  const initializers = [...parts.initializers];
  if (transA) nodes.push(makeNode('Transpose', ['x'], ['rows'], { name: 'swap' }));
  if (form.flattened) {
    initializers.push(
      int64Tensor('flat', [2], [-1, D]),
      int64Tensor('width', [1], [N]),
      int64Tensor('zero', [1], [0]),
      int64Tensor('two', [1], [2]),
    );
    nodes.push(
      makeNode('Reshape', ['x', 'flat'], ['rows'], { name: 'flatten' }),
      makeNode('Shape', ['x'], ['shape'], { name: 'shape' }),
      makeNode('Slice', ['shape', 'zero', 'two'], ['leading'], { name: 'leading' }),
      makeNode('Concat', ['leading', 'width'], ['back'], {
        name: 'back',
        attributes: [intAttributeOf('axis', 0)],
      }),
    );
  }
  nodes.push(...parts.nodes);
  if (form.fused) {
    const node = at(nodes, nodes.length - 1);
    node.opType = 'FusedGemm';
    node.domain = 'com.microsoft';
    node.attribute.push(stringAttributeOf('activation', 'Tanh'));
  }
  if (form.activation === 'tanh' && !form.fused)
    nodes.push(makeNode('Tanh', [product], ['site'], { name: 'tanh' }));
  if (form.activation === 'gelu') {
    const activation = gelu(product, 'site');
    nodes.push(...activation.nodes);
    initializers.push(...activation.initializers);
  }
  nodes.push(
    form.flattened
      ? makeNode('Reshape', ['site', 'back'], ['y'], { name: 'unflatten' })
      : makeNode('Identity', ['site'], ['y'], { name: 'y' }),
  );
  const leading = ['batch', ...form.inner];
  const proto = makeModel({
    inputs: [makeValueInfo('x', ELEM.FLOAT, [...leading, D])],
    outputs: [makeValueInfo('y', ELEM.FLOAT, [...leading, N])],
    nodes,
    initializers,
  });
  const { weight, bias, alpha, beta } = parts.layer;
  return {
    proto,
    base: { inFeatures: D, outFeatures: N, weight, bias: bias?.map((value) => value * beta) ?? null },
    gemm: { alpha, beta },
  };
}

function expected(
  form: Form,
  base: BaseParameters,
  alpha: number,
  x: Float32Array,
  lanes: readonly ModuleOperands[],
  batch: number,
): Float64Array {
  const perRow = x.length / batch;
  const rows = Array.from({ length: batch }, (_, r) => {
    const own = lanes[lanes.length === 1 ? 0 : r];
    return linearSite(x.subarray(r * perRow, (r + 1) * perRow), { ...base, alpha }, own);
  });
  const y = Float64Array.from(rows.flatMap((row) => Array.from(row)));
  if (form.activation === 'tanh') return y.map(Math.tanh);
  return form.activation === 'gelu' ? y.map(referenceGelu) : y;
}

async function check(form: Form, lanes: readonly ModuleOperands[], e: number): Promise<void> {
  const { proto, base, gemm } = siteModel(form);
  const model = asModel(proto);
  const batch = lanes.length === 1 ? 2 : lanes.length;
  const dims = [batch, ...form.inner, D];
  const x = randomFloats(
    3,
    dims.reduce((product, size) => product * size, 1),
  );
  const feeds = { x: new ort.Tensor('float32', x, dims) };
  const sites = sitesOf(model, form.rank);
  assert.deepEqual(
    sites.map((site) => site.module),
    [MODULE],
  );
  const want = expected(form, base, gemm.alpha ?? 1, x, lanes, batch);
  for (const laneForm of lanes.length === 1 ? (['many', 'one'] as const) : (['many'] as const)) {
    const { y } = await runPlan(model, sites, MODULE, base, lanes, e, feeds, laneForm);
    assert.ok(y);
    assert.deepEqual(y.dims, [batch, ...form.inner, N]);
    const error = relativeError(y.data as Float32Array, want);
    assert.ok(error <= TOLERANCE, `in the form of ${laneForm}: off by ${error}`);
  }
}

/** All non-empty subsets of the five operands. */
const SUBSETS: readonly Brings[] = Array.from({ length: 31 }, (_, i) => {
  const bits = i + 1;
  return {
    ...(bits & 1 ? { rotation: 4 } : {}),
    scale: (bits & 2) !== 0,
    bias: (bits & 4) !== 0,
    weight: (bits & 8) !== 0,
    ...(bits & 16 ? { outputRotation: 5 } : {}),
  };
});

/** Each operand alone, and all together. */
const FEW = [1, 2, 4, 8, 16, 31].map((bits) => at(SUBSETS, bits - 1));

function label(brings: Brings): string {
  const names = [
    brings.rotation !== undefined && 'rotation',
    brings.outputRotation !== undefined && 'outputRotation',
    brings.scale && 'scale',
    brings.bias && 'bias',
    brings.weight && 'weight',
  ];
  return names.filter(Boolean).join(' + ');
}

const SIZE = { module: MODULE, inFeatures: D, outFeatures: N };

describe('a plan equals the reference', () => {
  for (const form of FORMS) {
    it(`${form.name}: every set of operands, one lane`, async () => {
      for (const brings of SUBSETS) {
        await check(form, [moduleOperands(SIZE, brings, 31)], 4).catch((error: unknown) => {
          throw new Error(`${label(brings)}: ${String(error)}`, { cause: error });
        });
      }
    });

    it(`${form.name}: lanes with different operands, block sizes and a base row`, async () => {
      const lanes = [
        moduleOperands(SIZE, { rotation: 2, scale: true }, 41),
        moduleOperands(SIZE, {}, 0),
        moduleOperands(SIZE, { rotation: 3, bias: true }, 42),
        moduleOperands(SIZE, { rotation: 6, scale: true, bias: true, weight: true }, 43),
        moduleOperands(SIZE, { scale: true }, 44),
        moduleOperands(SIZE, { outputRotation: 2, scale: true, bias: true }, 45),
      ];
      await check(form, lanes, 6);
      await check(form, lanes.slice(0, 3), 12);
    });
  }

  for (const transA of [0, 1] as const) {
    for (const transB of [0, 1] as const) {
      for (const [alpha, beta] of [
        [1, 1],
        [0.5, 1],
        [1, 2],
        [-1.5, 0.25],
      ]) {
        const options = `transA ${transA}, transB ${transB}, alpha ${alpha}, beta ${beta}`;
        it(`Gemm with ${options}`, async () => {
          const gemm = { transA, transB, alpha, beta };
          const form: Form = { name: options, options: { form: 'Gemm', gemm }, ...rank2 };
          const fused: Form = { ...form, activation: 'tanh', fused: true };
          for (const brings of FEW) {
            await check(form, [moduleOperands(SIZE, brings, 51)], 4);
            await check(fused, [moduleOperands(SIZE, brings, 51)], 4);
          }
          if (transA === 0) {
            const lanes = SUBSETS.slice(0, 5).map((brings, i) => moduleOperands(SIZE, brings, 60 + i));
            await check(form, lanes, 12);
          }
        });
      }
    }
  }
});

describe('a head that lanes bring themselves', () => {
  const WIDE = N + 3;
  const kinds = new Set<OperandKind>(['rotation', 'scale', 'weight', 'bias']);
  const forms: readonly Form[] = [
    { name: 'MatMul + Add 3-D', options: { form: 'MatMulAdd' }, ...rank3 },
    { name: 'MatMul 3-D', options: { form: 'MatMul' }, ...rank3 },
    { name: 'Gemm', options: { form: 'Gemm' }, ...rank2 },
    { name: 'MatMul + Add 2-D', options: { form: 'MatMulAdd' }, ...rank2 },
  ];
  for (const form of forms) {
    it(`of another width, beside lanes of the base's: ${form.name}`, async () => {
      const { proto, base } = siteModel(form);
      const model = asModel(proto);
      const wide = moduleOperands(
        { ...SIZE, outFeatures: WIDE },
        { rotation: 4, weight: true, bias: true },
        71,
      );
      const lanes = [moduleOperands(SIZE, { scale: true }, 72), wide, moduleOperands(SIZE, {}, 0)];
      const dims = [lanes.length, ...form.inner, D];
      const perRow = form.inner.reduce((product, size) => product * size, D);
      const x = randomFloats(3, lanes.length * perRow);
      const pad = (values: ArrayLike<number>, length: number, fill: number): number[] => [
        ...Array.from(values),
        ...new Array<number>(length - values.length).fill(fill),
      ];
      const stack = (parts: number[][], shape: number[]): ort.Tensor =>
        new ort.Tensor('float32', Float32Array.from(parts.flat()), [lanes.length, ...shape]);
      const narrow = laneFeeds(
        MODULE,
        base,
        lanes.map(({ rotation }) => ({ module: MODULE, ...(rotation && { rotation }) })),
        4,
      );
      const feeds = {
        ...narrow,
        x: new ort.Tensor('float32', x, dims),
        [operandInput('scale', MODULE)]: stack(
          lanes.map((own) => pad(own.scale ?? [], WIDE, 1)),
          [1, WIDE],
        ),
        [operandInput('weight', MODULE)]: stack(
          lanes.map((own) => pad(own.weight ?? base.weight, WIDE * D, 0)),
          [WIDE, D],
        ),
        [operandInput('bias', MODULE)]: stack(
          lanes.map((own) => pad(own.bias ?? base.bias ?? [], WIDE, 0)),
          [1, WIDE],
        ),
      };
      // What follows the head has the base's width; a head is an output as it is.
      model.graph.node = model.graph.node.filter((node) => node.name !== 'y');
      model.graph.output = [makeValueInfo('site', ELEM.FLOAT, ['batch', ...form.inner, 'width'])];
      const plan = compilePlan(model, sitesOf(model, form.rank), new Map([[MODULE, kinds]]));
      const { site } = await runModel(plan, feeds);
      assert.ok(site);
      assert.deepEqual(site.dims, [lanes.length, ...form.inner, WIDE]);
      const data = site.data as Float32Array;
      for (const [row, own] of lanes.entries()) {
        const width = own === wide ? WIDE : N;
        const layer = { inFeatures: D, outFeatures: width, weight: base.weight, bias: base.bias };
        const want = linearSite(x.subarray(row * perRow, (row + 1) * perRow), layer, own);
        const got = data.subarray((row * perRow * WIDE) / D, ((row + 1) * perRow * WIDE) / D);
        const kept = got.filter((_, i) => i % WIDE < width);
        assert.ok(relativeError(kept, want) <= TOLERANCE, `lane ${row}`);
      }
    });
  }
});

describe('a plan leaves alone', () => {
  it('the base graph it was compiled from', async () => {
    const form = at(FORMS, 7);
    const { proto, base } = siteModel(form);
    const model = asModel(proto);
    const before = structuredClone(model.graph.node.map((node) => [node.opType, node.input, node.output]));
    const x = new ort.Tensor('float32', randomFloats(1, 2 * D), [2, D]);
    const plain = await runModel(model, { x });
    const lane = moduleOperands(SIZE, { rotation: 4, scale: true, bias: true, weight: true }, 1);
    await runPlan(model, sitesOf(model, 2), MODULE, base, [lane], 4, { x });
    assert.deepEqual(
      model.graph.node.map((node) => [node.opType, node.input, node.output]),
      before,
    );
    const again = await runModel(model, { x });
    assert.ok(plain.y);
    assert.deepEqual(again.y?.data, plain.y.data);
  });

  it('other modules and other readers of a site’s input and weight', async () => {
    const first = linear({
      module: 'net.a',
      input: 'x',
      output: 'a',
      inFeatures: D,
      outFeatures: D,
      form: 'MatMul',
      seed: 1,
    });
    // The second layer reads the same x and the very same weight tensor.
    const weight = at(first.initializers).name;
    const model = asModel(
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, ['batch', D])],
        outputs: ['a', 'b', 'c'].map((name) => makeValueInfo(name, ELEM.FLOAT, ['batch', D])),
        nodes: [
          ...first.nodes,
          makeNode('MatMul', ['x', weight], ['b'], { name: '/net/b/MatMul' }),
          makeNode('Neg', ['x'], ['c'], { name: '/net/Neg' }),
        ],
        initializers: [...first.initializers],
      }),
    );
    const x = new ort.Tensor('float32', randomFloats(2, 2 * D), [2, D]);
    const plain = await runModel(model, { x });
    const size = { module: 'net.a', inFeatures: D, outFeatures: D };
    const lane = moduleOperands(size, { rotation: 4, scale: true, bias: true, weight: true }, 5);
    const base = { ...first.layer };
    const result = await runPlan(model, sitesOf(model, 2), 'net.a', base, [lane], 4, { x });
    const values = (outputs: typeof plain): Float32Array[] =>
      ['a', 'b', 'c'].map((name) => outputs[name]?.data as Float32Array);
    const [before, after] = [values(plain), values(result)];
    assert.deepEqual(after.slice(1), before.slice(1));
    assert.ok(relativeError(at(after), at(before)) > 0.1);
  });
});
