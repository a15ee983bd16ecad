"""One case: a base in several exports, adapters, inputs, and what they must compute. Writes its folder."""

import copy
import dataclasses
import json
import pathlib
import platform
import shutil
from importlib.metadata import version
from typing import Callable

import numpy as np
import torch

from . import adapters as peft_side
from . import export as onnx_side
from . import graphs, legacy, precision, reference
from .adapters import Adapter
from .combined import Composition, Strength, report, write_composition, write_strength
from .export import Export

PACKAGES = ["torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime", "safetensors", "numpy"]


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    about: str
    build: Callable[[], torch.nn.Module]
    inputs: dict[str, dict[str, np.ndarray]]
    outputs: list[str]
    exports: list[Export]
    adapters: list[Adapter]
    dynamic: dict[str, dict[int, str]]
    compositions: list[Composition] = dataclasses.field(default_factory=list)
    strengths: list[Strength] = dataclasses.field(default_factory=list)
    atol: float = 1e-4
    rtol: float = 1e-4
    tolerance_note: str = "compare float32 outputs with expected/<adapter>/unmerged_f64; |got-want| <= atol + rtol*|want|"
    mixable: bool = True
    """Whether rows of one batch may use different adapters at every adapted site."""
    example: str = ""
    """The input set that is traced (default: the last)."""
    export_model: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model
    """The part of the model that is exported."""
    export_forward: Callable | None = None
    forward: Callable | None = None
    """(model, {input: tensor}) -> {output: tensor}; default: the model called with keywords."""
    rewrite: bool = False
    """A quantised base: what is expected is not PEFT over float weights but base.onnx rewritten (generator/graphs.py)."""

    def run_forward(self, model, tensors):
        if self.forward:
            return self.forward(model, tensors)
        return dict(zip(self.outputs, onnx_side.pick(model(**tensors), self.outputs)))


class Folder:
    """Writes the files of a case and remembers their paths for cases.json."""

    def __init__(self, root):
        self.root = root

    def arrays(self, place, sets, cast=None):
        """{set: {name: array}} -> the same with paths."""
        paths = {}
        for name, arrays in sets.items():
            paths[name] = {}
            for key, array in arrays.items():
                file = self.root / place / name / f"{key}.npy"
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, np.ascontiguousarray(array if cast is None else array.astype(cast)))
                paths[name][key] = str(file.relative_to(self.root))
        return paths


def write_bases(case, root, base64):
    variants = []
    example = case.inputs[case.example or list(case.inputs)[-1]]
    for spec in case.exports:
        path = root / spec.file
        if spec.make:
            with onnx_side.silenced():
                spec.make(root, path)
        else:
            model = case.export_model((spec.build or case.build)())
            onnx_side.export(spec, model, path, example, case.outputs, case.dynamic, case.export_forward)
        worst = onnx_side.check(spec, path, case.inputs, base64)
        print(f"  {spec.file}: {path.stat().st_size // 1024} KB, {worst:.1e} from torch", flush=True)
        opset = onnx_side.opset_of(path)
        variants.append(
            {"file": spec.file, "about": spec.describe(opset), "exporter": spec.kind, "opset": opset,
             "expect": spec.expect, "note": spec.note, "onnxruntime_vs_torch_f64": worst}
        )
    return variants


def check_against_numpy(case, adapter, folder, forms):
    """PEFT's outputs against the numpy reference; raises when they disagree."""
    model = reference.apply(peft_side.base_of(adapter, case.build), folder)
    mine = {n: precision.run(model, case.run_forward, a, True) for n, a in case.inputs.items()}
    worst = onnx_side.distance(mine, forms[adapter.numpy_form])
    limit = adapter.numpy_atol if adapter.numpy_form == "unmerged" else 1e-4
    if not worst <= limit:
        raise AssertionError(f"{case.name}/{adapter.name}: numpy is {worst:.2e} away from PEFT's {adapter.numpy_form}")
    return worst


def forms_of(case, adapter, folder):
    """PEFT writes the files and computes from them: ({form: {set: {output: array}}}, adapted modules)."""
    if adapter.peft_version != peft_side.CURRENT:
        return legacy.in_old_environment(case, adapter, folder)
    peft_side.write(adapter, case.build, folder)
    args = (adapter, case.build, folder, case.run_forward, case.inputs)
    forms = {
        "unmerged": peft_side.unmerged(*args),
        "merged": peft_side.merged(*args),
        "merged_double": peft_side.merged_double(*args),
    }
    return forms, peft_side.adapted_modules(adapter, case.build, folder)


def write_rewritten(case, adapter, root, folder, files):
    """The entry of an adapter on a quantised base: PEFT writes the file, the rewritten graph says what is expected."""
    peft_side.write(adapter, case.build, folder)
    floating = peft_side.unmerged(adapter, case.build, folder, case.run_forward, case.inputs)
    path = root / "rewritten.onnx"
    graphs.adapt(root / case.exports[0].file, folder, dict(case.build().named_modules()), path)
    wanted = graphs.rows_alone(path, case.inputs)
    together = onnx_side.answers(path, case.inputs)
    path.unlink()
    stats = {
        "rewritten_vs_peft_float": onnx_side.distance(wanted, floating),
        "one_batch_vs_rows_alone": onnx_side.distance(together, wanted),
    }
    expected = {"unmerged_f64": files.arrays(f"expected/{adapter.name}/unmerged_f64", wanted, np.float32)}
    return wanted, describe(adapter, peft_side.adapted_modules(adapter, case.build, folder), expected, stats)


def write_adapter(case, adapter, folder, files):
    forms, modules = forms_of(case, adapter, folder)
    stats = {"merged_f32_vs_unmerged_f64": onnx_side.distance(forms["merged"], forms["unmerged"])}
    merged64 = onnx_side.distance(forms["merged_double"], forms["unmerged"])
    stats["merged_f64_vs_unmerged_f64"] = merged64
    if merged64 > adapter.numpy_atol and not adapter.merged_differs:
        raise AssertionError(f"{case.name}/{adapter.name}: PEFT's merge is {merged64:.2e} away from its forward pass")
    if adapter.numpy_form:
        stats["numpy_vs_peft"] = check_against_numpy(case, adapter, folder, forms)
    expected = {
        "unmerged_f64": files.arrays(f"expected/{adapter.name}/unmerged_f64", forms["unmerged"], np.float32),
        "merged_f32": files.arrays(f"expected/{adapter.name}/merged_f32", forms["merged"], np.float32),
    }
    if adapter.read_today:
        model = reference.apply(peft_side.base_of(adapter, case.build), folder)
        current = {n: precision.run(model, case.run_forward, a, True) for n, a in case.inputs.items()}
        stats["current_vs_own_version"] = onnx_side.distance(current, forms["unmerged"])
        expected["current_f64"] = files.arrays(f"expected/{adapter.name}/current_f64", current, np.float32)
    return forms["unmerged"], describe(adapter, modules, expected, stats)


def describe(adapter, modules, expected, stats):
    return {
        "name": adapter.name,
        "path": f"adapters/{adapter.name}",
        "peft_version": adapter.peft_version,
        "expect": adapter.expect,
        "note": "; ".join(filter(None, [adapter.note, adapter.merged_differs])),
        "seed": adapter.seed,
        "adapted_modules": modules,
        **adapter.extra,
        "expected": expected,
        "stats": stats,
    }


def write_case(case, destination):
    """Generates the whole folder afresh."""
    print(case.name, flush=True)
    root = pathlib.Path(destination) / case.name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    files = Folder(root)
    base64 = {n: precision.run(case.build(), case.run_forward, a, True) for n, a in case.inputs.items()}
    variants = write_bases(case, root, base64)
    wanted = graphs.rows_alone(root / case.exports[0].file, case.inputs) if case.rewrite else base64
    spec = {
        "case": case.name,
        "about": case.about,
        "base": case.exports[0].file,
        "base_variants": {v["file"]: v["about"] for v in variants},
        "variants": variants,
        "reference": "base.onnx rewritten, rows run alone" if case.rewrite else "PEFT",
        "opset": variants[0]["opset"],
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "tolerance": {"atol": case.atol, "rtol": case.rtol, "note": case.tolerance_note},
        "mixable": case.mixable,
        "onnx_inputs": list(case.dynamic),
        "onnx_outputs": case.outputs,
        "inputs": files.arrays("inputs", case.inputs),
        "base_expected": files.arrays("expected/base", wanted, np.float32),
        "adapters": [],
    }
    unmerged = {}
    for adapter in case.adapters:
        folder = root / "adapters" / adapter.name
        if case.rewrite:
            unmerged[adapter.name], entry = write_rewritten(case, adapter, root, folder, files)
        else:
            unmerged[adapter.name], entry = write_adapter(case, adapter, folder, files)
        entry["stats"]["adapter_vs_base"] = onnx_side.distance(unmerged[adapter.name], wanted)
        spec["adapters"].append(entry)
        report(adapter.name, entry["stats"])
    spec["compositions"] = [write_composition(case, c, root, files) for c in case.compositions]
    spec["strengths"] = [write_strength(case, s, root, files, base64, unmerged) for s in case.strengths]
    finish(root, spec)


def finish(root, spec):
    def plain(value):
        return None if isinstance(value, float) and not np.isfinite(value) else value

    spec = copy.deepcopy(spec)
    for entry in spec["adapters"]:
        entry["stats"] = {k: plain(v) for k, v in entry.get("stats", {}).items()}
    (root / "cases.json").write_text(json.dumps(spec, indent=1) + "\n")
    size = sum(f.stat().st_size for f in root.rglob("*") if f.is_file())
    print(f"  {size // 1024} KB", flush=True)
