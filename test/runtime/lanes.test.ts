/** Assembled lanes: the right operands in the right places, and nothing copied twice. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LaneAssembler, commonSizes } from '#dist/runtime/lanes.js';
import type { LaneSizes, OperandSlot } from '#dist/runtime/lanes.js';
import type { AdapterOperands, ModuleOperands } from '#dist/types.js';
import { denseRotation } from '../reference/linear-site.js';
import { at } from '../support/at.js';
import { adapter, moduleOperands } from '../support/tiny-adapters.js';
import { randomFloats } from '../support/tiny-models.js';

const D = 12;
const N = 4;
const SIZE = { module: 'fc', inFeatures: D, outFeatures: N };
const BIAS = randomFloats(90, N);
const WEIGHT = randomFloats(91, N * D);

function slot(kind: OperandSlot['kind'], merged = false): OperandSlot {
  return { name: `papillon:${kind}:fc`, module: 'fc', kind, inFeatures: D, outFeatures: N, merged };
}
const SLOTS = [slot('rotation'), slot('scale'), slot('shift'), slot('weight')];

function assembler(
  adapters: readonly AdapterOperands[],
  slots: readonly OperandSlot[] = SLOTS,
): { lanes: LaneAssembler; resident: Map<string, AdapterOperands>; weightReads: () => number } {
  const resident = new Map(adapters.map((a) => [a.key, a]));
  let reads = 0;
  const base = {
    bias: () => BIAS,
    weight: () => {
      reads += 1;
      return WEIGHT;
    },
  };
  return { lanes: new LaneAssembler(slots, base, resident), resident, weightReads: () => reads };
}

function sizesOf(e: number): LaneSizes {
  return { blocks: new Map([[D, e]]), heads: new Map() };
}

function operand(
  lanes: LaneAssembler,
  keys: readonly (string | null)[],
  e: number,
  kind: string,
): Float32Array {
  const found = lanes.assemble(keys, sizesOf(e)).operands.get(`papillon:${kind}:fc`);
  assert.ok(found);
  const lane = found.laneShape.reduce((product, size) => product * size, 1);
  assert.equal(found.data.length, keys.length * lane);
  return found.data;
}

/** One lane's rotation as a full matrix. */
function dense(blocks: Float32Array, e: number): Float64Array {
  return denseRotation({ blockSize: e, blocks }, D);
}

const own = (brings: Parameters<typeof moduleOperands>[1], seed: number): ModuleOperands =>
  moduleOperands(SIZE, brings, seed);

describe('common block sizes', () => {
  const of = (...sizes: number[]): number | undefined =>
    commonSizes(
      SLOTS,
      sizes.map((rotation, i) => adapter(`a${i}`, [own({ rotation }, i)])),
    ).blocks.get(D);

  it('are the least common multiple', () => {
    assert.equal(of(4), 4);
    assert.equal(of(2, 4), 4);
    assert.equal(of(4, 6), 12);
    assert.equal(of(2, 3), 6);
    assert.equal(of(3, 3, 3), 3);
  });

  it('where nobody rotates, are some divisor of the width', () => {
    const e = commonSizes(SLOTS, [adapter('a', [own({ scale: true }, 1)]), null]).blocks.get(D);
    assert.ok(e !== undefined && D % e === 0);
  });

  it('have one entry a rotated width, and none for widths without rotations', () => {
    const other = { ...slot('scale'), module: 'other', inFeatures: 7 };
    assert.deepEqual([...commonSizes([...SLOTS, other], [null]).blocks.keys()], [D]);
  });
});

describe('a lane', () => {
  const full = adapter('full', [own({ rotation: 4, scale: true, bias: true, weight: true }, 1)]);
  const module = at(full.modules);

  it('alone is the adapter’s own arrays, not copies', () => {
    const { lanes } = assembler([full]);
    assert.equal(operand(lanes, ['full'], 4, 'rotation').buffer, module.rotation?.blocks.buffer);
    assert.equal(operand(lanes, ['full'], 4, 'scale').buffer, module.scale?.buffer);
    assert.equal(operand(lanes, ['full'], 4, 'weight').buffer, module.weight?.buffer);
  });

  it('has the bias as its difference from the base’s', () => {
    const { lanes } = assembler([full]);
    const shift = operand(lanes, ['full'], 4, 'shift');
    assert.deepEqual(
      shift,
      module.bias?.map((value, i) => Math.fround(value - (BIAS[i] as number))),
    );
  });

  it('of the base is the identity, ones, zeros and the base’s weight', () => {
    const { lanes, weightReads } = assembler([full]);
    const keys = ['full', null, null];
    const rotation = operand(lanes, keys, 4, 'rotation').subarray(D * 4, 2 * D * 4);
    assert.deepEqual(dense(rotation, 4), denseRotation(undefined, D));
    assert.deepEqual(operand(lanes, keys, 4, 'scale').subarray(N, 2 * N), new Float32Array(N).fill(1));
    assert.deepEqual(operand(lanes, keys, 4, 'shift').subarray(N, 2 * N), new Float32Array(N));
    assert.deepEqual(operand(lanes, keys, 4, 'weight').subarray(N * D, 2 * N * D), WEIGHT);
    assert.equal(weightReads(), 1);
  });

  it('of a smaller block size is embedded in the larger blocks', () => {
    const small = adapter('small', [own({ rotation: 2 }, 7)]);
    const { lanes } = assembler([full, small]);
    const data = operand(lanes, ['small', 'full'], 12, 'rotation');
    assert.deepEqual(dense(data.subarray(0, D * 12), 12), denseRotation(at(small.modules).rotation, D));
    assert.deepEqual(dense(data.subarray(D * 12), 12), denseRotation(module.rotation, D));
  });

  it('of a merged slot is rotation and scale inside the weight', () => {
    const plain = adapter('plain', [own({ rotation: 4, scale: true }, 3)]);
    const { lanes } = assembler([plain], [slot('weight', true)]);
    const merged = operand(lanes, ['plain'], 1, 'weight');
    const { rotation, scale } = at(plain.modules);
    const matrix = denseRotation(rotation, D);
    for (let o = 0; o < N; o++) {
      for (let i = 0; i < D; i++) {
        let sum = 0;
        for (let j = 0; j < D; j++) sum += (matrix[i * D + j] as number) * (WEIGHT[o * D + j] as number);
        assert.ok(Math.abs((merged[o * D + i] as number) - sum * (scale?.[o] ?? NaN)) < 1e-5);
      }
    }
  });
});

describe('a head that a lane brings itself', () => {
  const wide = { ...SIZE, outFeatures: N + 2 };
  const head = adapter('head', [moduleOperands(wide, { weight: true, bias: true }, 5)]);
  const plain = adapter('plain', [own({ scale: true }, 6)]);
  const slots = [slot('weight'), slot('bias'), slot('scale')];

  it('makes all lanes as wide as the widest', () => {
    assert.equal(commonSizes(slots, [head, plain]).heads.get('fc'), N + 2);
    assert.equal(commonSizes(slots, [plain, null]).heads.get('fc'), N);
  });

  it('is padded with zeros in narrower lanes, scales with ones', () => {
    const { lanes } = assembler([head, plain], slots);
    const { operands } = lanes.assemble(['plain', 'head', null], commonSizes(slots, [plain, head, null]));
    const lane = (kind: string, index: number): number[] => {
      const found = operands.get(`papillon:${kind}:fc`);
      assert.ok(found);
      const length = found.laneShape.reduce((product, size) => product * size, 1);
      return [...found.data.subarray(index * length, (index + 1) * length)];
    };
    const [own, other] = [at(head.modules), at(plain.modules)];
    const zeros = (count: number): number[] => new Array<number>(count).fill(0);
    for (const index of [0, 2]) {
      assert.deepEqual(lane('weight', index), [...WEIGHT, ...zeros(2 * D)]);
      assert.deepEqual(lane('bias', index), [...BIAS, 0, 0]);
    }
    assert.deepEqual(lane('weight', 1), [...(own.weight ?? [])]);
    assert.deepEqual(lane('bias', 1), [...(own.bias ?? [])]);
    assert.deepEqual(lane('scale', 0), [...(other.scale ?? []), 1, 1]);
    assert.deepEqual(lane('scale', 1), new Array(N + 2).fill(1));
  });
});

describe('lanes between batches', () => {
  const adapters = ['a', 'b', 'c'].map((key, i) => adapter(key, [own({ rotation: 4, scale: true }, 10 + i)]));
  const scaleOf = (key: string | null): number[] => {
    const found = adapters.find((candidate) => candidate.key === key)?.modules[0]?.scale;
    return [...(found ?? new Float32Array(N).fill(1))];
  };
  const scales = (keys: readonly (string | null)[]): number[] => keys.flatMap(scaleOf);

  it('stay where their adapter did not change', () => {
    const { lanes } = assembler(adapters);
    const first = operand(lanes, ['a', 'b', null, 'c'], 4, 'scale');
    // A mark in a lane that need not be written again is still there afterwards.
    first[0] = 777;
    const second = operand(lanes, ['a', 'c', null, 'c'], 4, 'scale');
    assert.equal(second.buffer, first.buffer);
    assert.equal(second[0], 777);
    assert.deepEqual([...second.subarray(N)], scales(['c', null, 'c']));
  });

  it('are right however batches follow each other', () => {
    const { lanes } = assembler(adapters);
    const batches: (string | null)[][] = [
      ['a', 'b'],
      ['b', 'a', 'c'],
      ['c'],
      [null, 'c', 'a', 'b', null],
      ['b', 'b'],
      ['a', null, 'c', 'c', 'b', 'a', 'b', 'c', 'a'],
      ['c', 'b'],
    ];
    for (const keys of batches) {
      for (const e of [4, 12]) assert.deepEqual([...operand(lanes, keys, e, 'scale')], scales(keys));
    }
  });

  it('are right with many combinations of block sizes', () => {
    const { lanes } = assembler(adapters);
    for (let round = 0; round < 2; round++) {
      for (const e of [4, 12]) {
        const rotation = operand(lanes, ['a', 'c'], e, 'rotation');
        assert.deepEqual(
          dense(rotation.subarray(0, D * e), e),
          denseRotation(at(at(adapters).modules).rotation, D),
        );
      }
    }
  });

  it('do not outlive an adapter that was forgotten and came back changed', () => {
    const { lanes, resident } = assembler(adapters);
    operand(lanes, ['a', 'b'], 4, 'scale');
    operand(lanes, ['a'], 4, 'scale');
    lanes.forget('a');
    const changed = adapter('a', [own({ rotation: 4, scale: true }, 99)]);
    resident.set('a', changed);
    const scale = at(changed.modules).scale;
    assert.ok(scale);
    assert.deepEqual([...operand(lanes, ['a'], 4, 'scale')], [...scale]);
    assert.deepEqual([...operand(lanes, ['a', 'b'], 4, 'scale')], [...scale, ...scaleOf('b')]);
  });

  it('forgetting one adapter leaves the others', () => {
    const { lanes } = assembler(adapters);
    operand(lanes, ['a', 'b'], 4, 'scale')[N] = 777;
    lanes.forget('a');
    assert.equal(operand(lanes, ['c', 'b'], 4, 'scale')[N], 777);
  });
});
