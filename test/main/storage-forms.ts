/** Parameters stored in other ways: other element types, Constant nodes, inputs with defaults, integers. */
import { create } from '@bufbuild/protobuf';
import { AttributeProtoSchema, AttributeType } from '#dist/onnx/gen/onnx_pb.js';
import {
  ELEM,
  floatTensor,
  int64Tensor,
  intAttributeOf,
  makeNode,
  makeValueInfo,
  transposed,
} from '../support/tiny-models.js';
import type { TensorProto } from '../support/tiny-models.js';
import { D, N, TOKENS, model, wide, vector, half, node, rows3, widthOf } from './form-parts.js';
import type { Form } from './form-parts.js';
import { addAfterMatMul } from './linear-forms.js';

/** Weights kept in 16 bits and widened in front of the product, as some tools store float32 models. */
export const widened: Form['build'] = (shared, own = shared) =>
  own === shared
    ? model(
        TOKENS,
        { y: rows3(N) },
        [
          node('Cast', ['w'], 'wide', 'Cast_w', intAttributeOf('to', ELEM.FLOAT)),
          node('Cast', ['b'], 'm.bias', 'Cast_b', intAttributeOf('to', ELEM.FLOAT)),
          node('MatMul', ['x', 'wide'], 'p', '/m/MatMul'),
          node('Add', ['m.bias', 'p'], 'y', '/m/Add'),
        ],
        [half(wide('w', shared), transposed(shared.weight, N, D)), half(vector('b', shared), shared.bias)],
      )
    : addAfterMatMul((p, b) => [b, p])(own);

export const float16Model: Form['build'] = (shared, own = shared) =>
  model(
    TOKENS,
    { y: rows3(N) },
    [
      node('Cast', ['x'], 'xh', 'in', intAttributeOf('to', ELEM.FLOAT16)),
      node('MatMul', ['xh', 'w'], 'p', '/m/MatMul'),
      node('Add', ['m.bias', 'p'], 'yh', '/m/Add'),
      node('Cast', ['yh'], 'y', 'out', intAttributeOf('to', ELEM.FLOAT)),
    ],
    [half(wide('w', own), transposed(own.weight, N, D)), half(vector('m.bias', own), own.bias)],
  );

/** Exporters of old wrote weights as inputs with default values. */
export const listedAsInputs: Form['build'] = (shared, own = shared) => {
  const proto = addAfterMatMul((p, b) => [p, b])(shared, own);
  proto.graph?.input.push(
    makeValueInfo('w', ELEM.FLOAT, [D, widthOf(own)]),
    makeValueInfo('m.bias', ELEM.FLOAT, [widthOf(own)]),
  );
  return proto;
};

export const constantNodes: Form['build'] = (shared, own = shared) => {
  const proto = addAfterMatMul((p, b) => [p, b])(shared, own);
  const { graph } = proto;
  if (!graph) throw new Error('no graph');
  for (const tensor of graph.initializer.splice(0)) {
    const value = create(AttributeProtoSchema, { name: 'value', t: tensor, type: AttributeType.TENSOR });
    const name = `Constant_${tensor.name}`;
    graph.node.unshift(makeNode('Constant', [], [tensor.name], { name, attributes: [value] }));
  }
  return proto;
};

/** Dynamic int8: only its bias can be replaced. */
export const integers: Form['build'] = (shared, own = shared) =>
  model(
    TOKENS,
    { y: rows3(N) },
    [
      makeNode('DynamicQuantizeLinear', ['x'], ['xq', 'xs', 'xz'], { name: 'quantiser' }),
      node('MatMulInteger', ['xq', 'wq', 'xz'], 'i', '/m/MatMul_quant'),
      node('Cast', ['i'], 'f', '/m/Cast', intAttributeOf('to', ELEM.FLOAT)),
      node('Mul', ['xs', 'ws'], 's', '/m/scales'),
      node('Mul', ['f', 's'], 'p', '/m/Mul'),
      node('Add', ['p', 'm.bias'], 'y', '/m/Add'),
    ],
    [quantisedWeight(), floatTensor('ws', [], Float32Array.of(0.05)), vector('m.bias', own)],
  );

function quantisedWeight(): TensorProto {
  const tensor = int64Tensor('wq', [D, N], []);
  tensor.dataType = ELEM.INT8;
  tensor.rawData = Uint8Array.from({ length: D * N }, (_, i) => (i * 37) & 0xff);
  return tensor;
}
