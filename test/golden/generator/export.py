"""ONNX exports of one torch model, as users make them, and the check that they compute what torch does."""

import contextlib
import dataclasses
import io
import logging
import pathlib
import types
import warnings
from typing import Callable

import numpy as np
import onnx
import onnxruntime
import torch


@dataclasses.dataclass(frozen=True)
class Export:
    """One .onnx file of a case. `kind`: torchscript, dynamo, or derived (`make` gets the case's folder and path)."""

    file: str = "base.onnx"
    kind: str = "torchscript"
    opset: int = 17
    fold: bool = True
    note: str = ""
    expect: str = "ok"
    half: bool = False
    """Export the model in float16."""
    make: Callable[[pathlib.Path, pathlib.Path], None] | None = None
    atol: float = 2e-5
    """How far the file may be from torch in float64 (it is checked)."""
    build: Callable[[], torch.nn.Module] | None = None
    """The same weights held in another way (attention written out for opsets before 14)."""

    def describe(self, opset):
        how = {
            "torchscript": "torch.onnx.export, TorchScript exporter",
            "dynamo": "torch.onnx.export(dynamo=True)",
        }.get(self.kind, self.kind)
        folded = "" if self.kind != "torchscript" else f", do_constant_folding={self.fold}"
        return f"{how}, opset {opset}{folded}" + (f"; {self.note}" if self.note else "")


@contextlib.contextmanager
def silenced():
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(level)


def slim(model):
    """Drops stack traces (paths of the exporting machine) and shape comments; keeps the name scopes."""
    def nodes(graph):
        for node in graph.node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from nodes(attribute.g)

    for graph in [model.graph, *model.functions]:
        for node in nodes(graph) if hasattr(graph, "initializer") else graph.node:
            kept = [p for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
            kept = [(p.key, p.value) for p in kept]
            del node.metadata_props[:]
            for key, value in kept:
                node.metadata_props.add(key=key, value=value)
            node.doc_string = ""
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        if hasattr(value, "metadata_props"):
            del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.doc_string = ""
    model.doc_string = ""
    return model


def pick(result, outputs):
    """The named outputs of what a model returned, as a tuple."""
    if isinstance(result, torch.Tensor):
        return (result,)
    if isinstance(result, (tuple, list)):
        return tuple(result[: len(outputs)])
    return tuple(result[name] for name in outputs)


def export(spec, model, path, example, outputs, dynamic, forward=None):
    """Writes `model` to `path`. `dynamic`: {input: {axis: name}}; `forward` replaces the model's own during export."""
    model = (model.half() if spec.half else model.float()).eval()
    names = list(dynamic)
    tensors = [torch.from_numpy(example[name]) for name in names]
    tensors = [t.half() if spec.half and t.is_floating_point() else t for t in tensors]
    own = types.MethodType(forward, model) if forward else model.forward

    def positional(_, *args):
        # Only the case's inputs: the exporters would turn further defaults of the model into inputs.
        return pick(own(**dict(zip(names, args))), outputs)

    model.forward = types.MethodType(positional, model)
    common = dict(input_names=names, output_names=outputs, opset_version=spec.opset)
    with silenced():
        if spec.kind == "dynamo":
            shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis in dynamic[name]} for name in names)
            torch.onnx.export(
                model, tuple(tensors), path, dynamo=True, dynamic_shapes=(shapes,), external_data=False, **common
            )
        else:
            axes = {name: dict(a) for name, a in dynamic.items()}
            axes.update({name: {0: "batch"} for name in outputs})
            torch.onnx.export(
                model, tuple(tensors), path, dynamo=False, dynamic_axes=axes, do_constant_folding=spec.fold, **common
            )
    onnx.save(slim(onnx.load(path)), path)


def opset_of(path):
    return next(o.version for o in onnx.load(path).opset_import if o.domain in ("", "ai.onnx"))


def session(path, optimise=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(path, inputs, optimise=True):
    """{set: {output: array}} of an .onnx file."""
    model = session(path, optimise)
    names = [o.name for o in model.get_outputs()]
    wanted = {i.name: i.type for i in model.get_inputs()}
    result = {}
    for name, arrays in inputs.items():
        feed = {
            k: v.astype(np.float16) if wanted[k] == "tensor(float16)" else v for k, v in arrays.items() if k in wanted
        }
        result[name] = dict(zip(names, model.run(None, feed)))
    return result


def check(spec, path, inputs, expected):
    """Worst distance of the file's answers from `expected`; raises beyond the tolerance of the export."""
    onnx.checker.check_model(str(path), full_check=False)
    worst = distance(answers(path, inputs), expected)
    if not worst <= spec.atol:
        raise AssertionError(f"{path.name} is {worst:.2e} away from torch")
    return worst


def distance(got, want):
    worst = 0.0
    for name, outputs in want.items():
        for output, array in outputs.items():
            if got[name][output].shape != array.shape:
                return float("inf")
            worst = max(worst, float(np.abs(got[name][output].astype(np.float64) - array).max()))
    return worst
