/** One test a pass and rule: what it requires, what it ensures, and what it leaves alone. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PlanGraph, blocksInput, operandInput } from '#dist/onnx/passes/edit.js';
import type { ShapedSite, SiteEdit } from '#dist/onnx/passes/edit.js';
import { exposeValues } from '#dist/onnx/passes/expose-values.js';
import { feedInput } from '#dist/onnx/passes/feed-input.js';
import { insertBias } from '#dist/onnx/passes/insert-bias.js';
import { insertOutputRotation } from '#dist/onnx/passes/insert-output-rotation.js';
import { insertRotation } from '#dist/onnx/passes/insert-rotation.js';
import { insertScale } from '#dist/onnx/passes/insert-scale.js';
import { insertShift } from '#dist/onnx/passes/insert-shift.js';
import { replaceKernel } from '#dist/onnx/passes/replace-kernel.js';
import { replaceWeight } from '#dist/onnx/passes/replace-weight.js';
import { splitActivation } from '#dist/onnx/passes/split-activation.js';
import { splitBias } from '#dist/onnx/passes/split-bias.js';
import { at } from '../support/at.js';
import {
  ELEM,
  floatAttributeOf,
  intAttributeOf,
  makeModel,
  makeNode,
  makeValueInfo,
  stringAttributeOf,
} from '../support/tiny-models.js';
import type { AttributeProto, NodeProto } from '../support/tiny-models.js';
import { asModel } from './plan-harness.js';

const D = 8;
const N = 6;

function siteOf(changes: Partial<ShapedSite> = {}): ShapedSite {
  return {
    module: 'net.fc',
    kind: 'linear',
    value: 'y',
    input: 'x',
    inFeatures: D,
    outFeatures: N,
    kernel: null,
    quantiser: null,
    isPatches: false,
    biased: null,
    quantised: false,
    rank: 3,
    separable: true,
    half: false,
    ...changes,
  };
}

function editOf(node: NodeProto, changes: Partial<ShapedSite> = {}, plan = new PlanGraph('many')): SiteEdit {
  const site = siteOf(changes);
  return { site, plan, node, before: [], after: [], input: site.input, current: 'product', inLanes: false };
}

function product(opType: string, inputs: string[], attributes: AttributeProto[] = []): NodeProto {
  return makeNode(opType, inputs, ['product'], { name: 'node', attributes });
}

function operators(nodes: readonly NodeProto[]): string[] {
  return nodes.map((node) => node.opType);
}

/** Every value that nodes read is made by an earlier one, or is given. */
function assertOrdered(nodes: readonly NodeProto[], plan: PlanGraph, ...given: string[]): void {
  const known = new Set([...given, ...plan.inputs.keys(), ...plan.constants.keys()]);
  for (const node of [...plan.prologue, ...nodes]) {
    for (const name of node.input) assert.ok(known.has(name), `${node.name} reads ${name} too early`);
    for (const name of node.output) {
      assert.ok(!known.has(name), `${name} is made twice`);
      known.add(name);
    }
  }
}

describe('insertRotation', () => {
  it('rotates in front of the product and touches neither node nor weight', () => {
    const node = product('MatMul', ['x', 'w']);
    const edit = editOf(node);
    insertRotation(edit);
    assert.deepEqual(node.input, ['x', 'w']);
    assert.notEqual(edit.input, 'x');
    assert.equal(at(edit.before, edit.before.length - 1).output[0], edit.input);
    assert.equal(operators(edit.before).filter((op) => op === 'MatMul').length, 1);
    assert.ok(edit.plan.inputs.has(operandInput('rotation', 'net.fc')));
    assert.ok(edit.plan.inputs.has(blocksInput(D)));
    assertOrdered(edit.before, edit.plan, 'x');
  });

  it('sites that read the same x share its blocked transposition', () => {
    const first = editOf(product('MatMul', ['x', 'w']));
    insertRotation(first);
    const second = editOf(product('MatMul', ['x', 'v']), { module: 'net.other', value: 'z' }, first.plan);
    insertRotation(second);
    assert.deepEqual(operators(second.before), ['MatMul', 'Transpose', 'Reshape']);
    assertOrdered([...first.before, ...second.before], first.plan, 'x');
  });

  it('of one lane reads x by strides and transposes only the result', () => {
    const edit = editOf(product('MatMul', ['x', 'w']), {}, new PlanGraph('one'));
    insertRotation(edit);
    assert.equal(operators(edit.before).filter((op) => op === 'Transpose').length, 1);
    assert.ok(operators(edit.before).includes('FusedMatMul'));
    assertOrdered(edit.before, edit.plan, 'x');
  });

  for (const opType of ['Gemm', 'FusedGemm']) {
    it(`${opType} with transA: x is transposed first and transA becomes 0`, () => {
      const node = product(opType, ['x', 'w'], [intAttributeOf('transA', 1), intAttributeOf('transB', 1)]);
      const edit = editOf(node, { rank: 2 });
      insertRotation(edit);
      assert.equal(at(edit.before).opType, 'Transpose');
      assert.deepEqual(
        node.attribute.map(({ name }) => name),
        ['transB'],
      );
    });
  }

  it('float16 is rotated in float32 and rounded again', () => {
    const edit = editOf(product('MatMul', ['x', 'w']), { half: true });
    insertRotation(edit);
    const ops = operators(edit.before);
    assert.equal(ops[0], 'Cast');
    assert.equal(ops.at(-1), 'Cast');
    assertOrdered(edit.before, edit.plan, 'x');
  });
});

describe('feedInput', () => {
  it('makes a float product read the edited input', () => {
    const node = product('Gemm', ['x', 'w', 'b']);
    const edit = { ...editOf(node), input: 'rotated' };
    feedInput(edit);
    assert.deepEqual(node.input, ['rotated', 'w', 'b']);
  });

  it('leaves a node whose input was not edited', () => {
    const node = product('MatMulIntegerToFloat', ['q', 'w', 's', 'ws', 'z', 'wz']);
    feedInput(editOf(node));
    assert.deepEqual(node.input, ['q', 'w', 's', 'ws', 'z', 'wz']);
  });

  it('gives a MatMulIntegerToFloat a quantiser of its own', () => {
    const node = product('MatMulIntegerToFloat', ['q', 'w', 's', 'ws', 'z', 'wz', 'b']);
    const edit = { ...editOf(node), input: 'rotated' };
    feedInput(edit);
    const quantiser = at(edit.before);
    assert.equal(quantiser.opType, 'DynamicQuantizeLinear');
    assert.deepEqual(quantiser.input, ['rotated']);
    const [values, scale, zeroPoint] = quantiser.output;
    assert.deepEqual(node.input, [values, 'w', scale, 'ws', zeroPoint, 'wz', 'b']);
  });
});

describe('splitBias', () => {
  it('does nothing where there is no bias inside', () => {
    for (const node of [
      product('MatMul', ['x', 'w']),
      product('Gemm', ['x', 'w']),
      product('Gemm', ['x', 'w', '']),
    ]) {
      const edit = editOf(node);
      const inputs = node.input.slice();
      splitBias(edit)();
      assert.deepEqual(node.input, inputs);
      assert.deepEqual(edit.after, []);
      assert.equal(edit.current, 'product');
    }
  });

  it('β = 1: Add(product, C) behind whatever came in between', () => {
    const node = product('Gemm', ['x', 'w', 'c']);
    const edit = editOf(node);
    const addBias = splitBias(edit);
    assert.deepEqual(node.input, ['x', 'w']);
    edit.current = 'in-between';
    addBias();
    assert.deepEqual(operators(edit.after), ['Add']);
    assert.deepEqual(at(edit.after).input, ['in-between', 'c']);
  });

  it('other β: Add(product, Mul(C, β))', () => {
    const edit = editOf(product('Gemm', ['x', 'w', 'c'], [floatAttributeOf('beta', 0.5)]));
    splitBias(edit)();
    assert.deepEqual(operators(edit.after), ['Mul', 'Add']);
    assertOrdered(edit.after, edit.plan, 'product', 'c');
    const constants = [...edit.plan.constants.values()];
    assert.equal(new Float32Array(at(constants).rawData.slice().buffer)[0], 0.5);
  });

  it('quantised products: the bias goes, other inputs keep their places', () => {
    const node = product('MatMulNBits', ['x', 'w', 'scales', '', '', 'c']);
    const edit = editOf(node, { quantised: true });
    splitBias(edit)();
    assert.deepEqual(node.input, ['x', 'w', 'scales']);
    assert.deepEqual(at(edit.after).input, ['product', 'c']);
  });
});

describe('splitActivation', () => {
  it('does nothing to other nodes', () => {
    const node = product('Gemm', ['x', 'w']);
    const edit = editOf(node);
    splitActivation(edit)();
    assert.equal(node.opType, 'Gemm');
    assert.deepEqual(edit.after, []);
  });

  it('takes the activation and its parameters out of a FusedGemm', () => {
    const attributes = [
      intAttributeOf('transB', 1),
      stringAttributeOf('activation', 'LeakyRelu'),
      floatAttributeOf('activation_alpha', 0.1),
    ];
    const node = product('FusedGemm', ['x', 'w'], attributes);
    node.domain = 'com.microsoft';
    const edit = editOf(node);
    const activate = splitActivation(edit);
    assert.deepEqual([node.opType, node.domain], ['Gemm', '']);
    assert.deepEqual(
      node.attribute.map(({ name }) => name),
      ['transB'],
    );
    activate();
    const activation = at(edit.after);
    assert.equal(activation.opType, 'LeakyRelu');
    assert.deepEqual(activation.input, ['product']);
    assert.deepEqual(
      activation.attribute.map(({ name, f }) => [name, Math.fround(f)]),
      [['alpha', Math.fround(0.1)]],
    );
  });
});

describe('insertScale, insertShift and insertBias', () => {
  const passes = [
    ['scale', 'Mul', insertScale],
    ['shift', 'Add', insertShift],
    ['bias', 'Add', insertBias],
  ] as const;
  for (const [kind, opType, pass] of passes) {
    it(`${kind}: rank 3 broadcasts as it is`, () => {
      const edit = editOf(product('MatMul', ['x', 'w']));
      pass(edit);
      assert.deepEqual(operators(edit.after), [opType]);
      assert.deepEqual(at(edit.after).input, ['product', operandInput(kind, 'net.fc')]);
    });

    for (const rank of [0, 2, 4]) {
      it(`${kind}: rank ${rank === 0 ? 'unknown' : rank} is seen by lanes and turned back`, () => {
        const edit = editOf(product('MatMul', ['x', 'w']), { rank });
        pass(edit);
        assert.deepEqual(operators(edit.after), ['Reshape', opType, 'Shape', 'Reshape']);
        assertOrdered(edit.after, edit.plan, 'product');
      });
    }
  }

  it('a convolution’s shift lies along its channels', () => {
    const edit = editOf(product('Conv', ['x', 'w']), { kind: 'convolution', kernel: [N, 2, 2, 2], rank: 4 });
    insertShift(edit);
    assert.deepEqual(operators(edit.after), ['Reshape', 'Add']);
    assertOrdered(edit.after, edit.plan, 'product');
  });
});

describe('insertOutputRotation', () => {
  it('rotates the current value behind the product', () => {
    const edit = editOf(product('MatMul', ['x', 'w']));
    insertOutputRotation(edit);
    assert.deepEqual(edit.before, []);
    assert.equal(edit.current, at(edit.after, edit.after.length - 1).output[0]);
    assert.ok(edit.plan.inputs.has(blocksInput(N)));
    assertOrdered(edit.after, edit.plan, 'product');
  });
});

describe('replaceWeight', () => {
  it('makes the node a product with the operand; the result gets its shape back at the end', () => {
    const node = product('MatMul', ['x', 'w']);
    const edit = editOf(node);
    const leaveLanes = replaceWeight(edit);
    assert.equal(node.opType, 'FusedMatMul');
    assert.ok(!node.input.includes('w'));
    assert.ok(node.input.includes(operandInput('weight', 'net.fc')));
    assert.equal(edit.inLanes, true);
    leaveLanes();
    assert.equal(edit.inLanes, false);
    assert.equal(at(edit.after, edit.after.length - 1).opType, 'Reshape');
    assertOrdered([...edit.before, node, ...edit.after], edit.plan, 'x');
  });

  it('α stays, transA is taken out in front', () => {
    const node = product('Gemm', ['x', 'w'], [intAttributeOf('transA', 1), floatAttributeOf('alpha', 0.5)]);
    const edit = editOf(node, { rank: 2 });
    replaceWeight(edit);
    assert.equal(at(edit.before).opType, 'Transpose');
    assert.deepEqual(
      node.attribute.map(({ name, f }) => [name, f]),
      [
        ['transB', 0],
        ['alpha', 0.5],
      ],
    );
  });

  it('operands behind it need no views of their own, whatever the rank', () => {
    const edit = editOf(product('MatMul', ['x', 'w']), { rank: 2 });
    const leaveLanes = replaceWeight(edit);
    insertScale(edit);
    insertBias(edit);
    leaveLanes();
    assert.deepEqual(operators(edit.after).slice(0, 2), ['Mul', 'Add']);
    assertOrdered([...edit.before, edit.node, ...edit.after], edit.plan, 'x');
  });
});

describe('replaceKernel', () => {
  it('feeds the operand in the kernel’s shape', () => {
    const node = product('Conv', ['x', 'w', 'b']);
    const edit = editOf(node, { kind: 'convolution', kernel: [N, 2, 2, 2], rank: 4 });
    replaceKernel(edit);
    assert.deepEqual(node.input, ['x', at(edit.before).output[0], 'b']);
    assert.ok(edit.plan.constants.has(`papillon:const:${N},2,2,2`));
    assertOrdered(edit.before, edit.plan);
  });
});

describe('exposeValues', () => {
  it('makes every value an output exactly once', () => {
    const model = asModel(
      makeModel({
        inputs: [makeValueInfo('x', ELEM.FLOAT, [1])],
        outputs: [makeValueInfo('y', ELEM.FLOAT, [1])],
        nodes: [makeNode('Neg', ['x'], ['m'], { name: 'a' }), makeNode('Neg', ['m'], ['y'], { name: 'b' })],
      }),
    );
    exposeValues(model, ['m', 'y', 'x', 'm']);
    assert.deepEqual(
      model.graph.output.map(({ name }) => name),
      ['y', 'm', 'x'],
    );
    assert.equal(model.graph.node.length, 2);
  });
});
