"""The slow reference of quantised bases: the graph rewritten by hand for one adapter, each row run alone.

The dense R stands in front of whatever quantises the activations of the adapted node, as a quantiser of its own;
s multiplies the node's output before the bias. Works on graphs whose node names carry the module's path.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import export as onnx_side
from . import reference

COMPUTES = {"MatMul", "MatMulInteger", "MatMulNBits", "Gemm"}


class Graph:
    def __init__(self, path):
        self.model = onnx.load(path)
        self.graph = self.model.graph
        self.fresh = 0

    def name(self, hint):
        self.fresh += 1
        return f"reference_{hint}_{self.fresh}"

    def producer(self, tensor):
        return next((n for n in self.graph.node if tensor in n.output), None)

    def consumers(self, tensor):
        return [n for n in self.graph.node if tensor in n.input]

    def constant(self, array):
        name = self.name("constant")
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def insert(self, before, op, inputs, outputs, **attributes):
        """A new node in front of the node `before`."""
        place = next(i for i, n in enumerate(self.graph.node) if n is before or n == before)
        self.graph.node.insert(place, helper.make_node(op, inputs, outputs, self.name(op), **attributes))

    def computes(self, module):
        """The nodes that multiply by a module's weight: exact path first, then further uses (_1, _2)."""
        found = []
        for node in self.graph.node:
            path = node.name.strip("/").replace("/", ".")
            if node.op_type in COMPUTES and path.startswith(module + "."):
                found.append(node)
        if len(found) != 1:
            raise AssertionError(f"{module} has {len(found)} nodes")
        return found[0]

    def rotated(self, tensor, matrix, before):
        output = self.name("rotated")
        self.insert(before, "MatMul", [tensor, self.constant(matrix)], [output])
        return output

    def rotate(self, node, matrix):
        """Puts R in front of the quantiser of `node`'s activations, which is copied for this node alone."""
        source = self.producer(node.input[0])
        if node.op_type == "MatMulInteger" and source is not None and source.op_type == "DynamicQuantizeLinear":
            outputs = [self.name(part) for part in ("quantised", "scale", "zero")]
            rotated = self.rotated(source.input[0], matrix, node)
            self.insert(node, "DynamicQuantizeLinear", [rotated], outputs)
            node.input[0] = outputs[0]
            node.input[2] = outputs[2]
            self.rescale(node, source.output[1], outputs[1])
        elif source is not None and source.op_type == "DequantizeLinear":
            quantiser = self.producer(source.input[0])
            rotated = self.rotated(quantiser.input[0], matrix, node)
            middle, output = self.name("quantised"), self.name("dequantised")
            self.insert(node, "QuantizeLinear", [rotated, *quantiser.input[1:]], [middle])
            self.insert(node, "DequantizeLinear", [middle, *source.input[1:]], [output])
            node.input[0] = output
        else:
            node.input[0] = self.rotated(node.input[0], matrix, node)

    def rescale(self, node, old, new):
        """Gives the product of scales that follows an integer product the new activation scale."""
        cast = self.consumers(node.output[0])[0]
        final = self.consumers(cast.output[0])[0]
        scales = self.producer(next(i for i in final.input if i != cast.output[0]))
        output = self.name("scales")
        self.insert(final, "Mul", [new if i == old else i for i in scales.input], [output])
        final.input[:] = [output if i == scales.output[0] else i for i in final.input]

    def scale(self, node, factors):
        """Multiplies the float output of `node` by s."""
        last = node
        if node.op_type == "MatMulInteger":
            last = self.consumers(self.consumers(node.output[0])[0].output[0])[0]
        plain = self.name("unscaled")
        output = last.output[0]
        last.output[0] = plain
        place = next(i for i, n in enumerate(self.graph.node) if n is last or n == last)
        self.graph.node.insert(
            place + 1, helper.make_node("Mul", [plain, self.constant(factors)], [output], self.name("Mul"))
        )

    def replace(self, name, value):
        """Another value for an initializer that one module owns (a bias)."""
        for initializer in self.graph.initializer:
            if initializer.name == name:
                initializer.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
                return
        raise AssertionError(f"no initializer {name}")


def adapt(path, folder, modules, destination):
    """Writes the base at `path` with one adapter in front of its quantisers to `destination`; `modules`: the torch model's."""
    graph = Graph(path)
    for module, rotation in reference.rotations(folder, modules).items():
        node = graph.computes(module)
        if node.op_type == "Gemm":
            raise AssertionError(f"{module} is a Gemm: scale and bias cannot be parted")
        graph.rotate(node, rotation.matrix)
        if rotation.scale is not None:
            graph.scale(node, rotation.scale)
    for name, value in reference.replaced(folder).items():
        graph.replace(name, value)
    onnx.save(graph.model, destination)


def rows_alone(path, inputs):
    """{set: {output: array}} with every row of every set run by itself, no graph optimisation."""
    model = onnx_side.session(path, optimise=False)
    names = [o.name for o in model.get_outputs()]
    result = {}
    for name, arrays in inputs.items():
        count = len(next(iter(arrays.values())))
        rows = [model.run(None, {k: v[i : i + 1] for k, v in arrays.items()}) for i in range(count)]
        result[name] = {output: np.concatenate([row[k] for row in rows]) for k, output in enumerate(names)}
    return result
