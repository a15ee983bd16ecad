/**
 * Replaces the frozen weight by one per lane: x [L, T', d] · W [L, n', d]ᵀ → [L, T', n'].
 *
 * Requires: `splitBias` has run. Ensures: the node is a FusedMatMul over the operand, in float32; the current value
 * stays in the lanes' view [L, T', n'] for the passes that follow, until the returned function gives it the product's
 * shape with n' as its last axis.
 * Rules: 1. α ≠ 1 stays as FusedMatMul's alpha. 2. The operand keeps the checkpoint's [out, in] order (transB).
 */
import { create } from '@bufbuild/protobuf';
import { AttributeProtoSchema, AttributeType } from '../gen/onnx_pb.js';
import { floatAttribute, intAttributeOf, makeNode } from '../graph.js';
import { ELEM } from '../model.js';
import { append, inFloat, operandInput, shapeOf } from './edit.js';
import type { SiteEdit } from './edit.js';
import { rowMajorInput } from './insert-rotation.js';

export function replaceWeight(edit: SiteEdit): () => void {
  const { site, plan, before, node } = edit;
  rowMajorInput(edit);
  const x = inFloat(edit, edit.input);
  const rows = `papillon:${site.value}:weight-rows`;
  before.push(makeNode('Reshape', [x, plan.rowsShape(site.inFeatures)], [rows], { name: rows }));
  const operand = plan.input(operandInput('weight', site.module), ELEM.FLOAT, [
    'lanes',
    'width',
    site.inFeatures,
  ]);
  const alpha = node.opType === 'Gemm' ? floatAttribute(node, 'alpha', 1) : 1;
  node.opType = 'FusedMatMul';
  node.domain = 'com.microsoft';
  node.input = [rows, operand];
  node.attribute = [
    intAttributeOf('transB', 1),
    create(AttributeProtoSchema, { name: 'alpha', f: alpha, type: AttributeType.FLOAT }),
  ];
  edit.inLanes = true;
  const original = shapeOf(edit, x, before);
  return () => {
    const shape = `papillon:${site.value}:weight-shape`;
    edit.after.push(
      makeNode('Slice', [original, plan.int64([0]), plan.int64([-1])], [`${shape}:leading`], {
        name: `${shape}:leading`,
      }),
      makeNode('Concat', [`${shape}:leading`, plan.int64([-1])], [shape], {
        name: shape,
        attributes: [intAttributeOf('axis', 0)],
      }),
    );
    append(edit, 'weighted', 'Reshape', [edit.current, shape]);
    edit.inLanes = false;
  };
}
