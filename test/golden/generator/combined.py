"""Several adapters at once, and one adapter at another strength: what must come out."""

import dataclasses

import numpy as np

from . import adapters as peft_side
from . import export as onnx_side
from . import precision, reference


@dataclasses.dataclass(frozen=True)
class Composition:
    """Adapters active together, in PEFT's order: set_adapter(parts)."""

    parts: list[str]
    note: str = ""
    expect: str = "ok"
    by_reference: bool = False
    """PEFT cannot hold these parts at once: the expected values are the numpy reference's."""


@dataclasses.dataclass(frozen=True)
class Strength:
    adapter: str
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    note: str = ""
    expect: str = "ok"


def report(name, stats):
    print(f"  {name}: " + ", ".join(f"{key} {value:.1e}" for key, value in stats.items()), flush=True)


def by_reference(case, parts, folders):
    model = peft_side.base_of(parts[0], case.build)
    for folder in folders:
        model = reference.apply(model, folder)
    return {n: precision.run(model, case.run_forward, a, True) for n, a in case.inputs.items()}


def write_composition(case, composition, root, files):
    known = {a.name: a for a in case.adapters}
    parts = [known[name] for name in composition.parts]
    folders = [root / "adapters" / name for name in composition.parts]
    kinds = {type(part.config()).__name__ for part in parts}
    # BOFT: x meets the last part first (x R_b R_a). OFT: the first (x R_a R_b).
    order = folders if kinds == {"BOFTConfig"} else folders[::-1]
    name = "+".join(composition.parts)
    entry = {"name": name, "parts": composition.parts, "expect": composition.expect, "note": composition.note}
    if composition.expect == "judge":
        return entry
    mine = by_reference(case, parts, order)
    if composition.by_reference:
        entry["reference"] = "numpy"
        entry["expected"] = {"unmerged_f64": files.arrays(f"expected/{name}/unmerged_f64", mine, np.float32)}
        return entry
    args = (parts, case.build, folders, case.run_forward, case.inputs)
    theirs, merged = peft_side.stacked(*args, merge=False), peft_side.stacked(*args, merge=True)
    swapped = by_reference(case, parts, order[::-1])
    entry["reference"] = "PEFT set_adapter(parts)"
    entry["stats"] = {
        "numpy_vs_peft": onnx_side.distance(mine, theirs),
        "merged_f32_vs_unmerged_f64": onnx_side.distance(merged, theirs),
        "other_order_vs_peft": onnx_side.distance(swapped, theirs),
    }
    report(name, entry["stats"])
    if entry["stats"]["numpy_vs_peft"] > 1e-9:
        raise AssertionError(f"{case.name}/{name}: {entry['stats']}")
    entry["expected"] = {
        "unmerged_f64": files.arrays(f"expected/{name}/unmerged_f64", theirs, np.float32),
        "merged_f32": files.arrays(f"expected/{name}/merged_f32", merged, np.float32),
    }
    return entry


def write_strength(case, strength, root, files, base64, unmerged):
    known = {a.name: a for a in case.adapters}
    entry = {"adapter": strength.adapter, "expect": strength.expect, "note": strength.note, "alphas": []}
    for alpha in strength.alphas:
        model = peft_side.base_of(known[strength.adapter], case.build)
        model = reference.apply(model, root / "adapters" / strength.adapter, alpha)
        mine = {n: precision.run(model, case.run_forward, a, True) for n, a in case.inputs.items()}
        ends = {0.0: base64, 1.0: unmerged[strength.adapter]}
        if alpha in ends and onnx_side.distance(mine, ends[alpha]) > 1e-9:
            raise AssertionError(f"{case.name}/{strength.adapter}: strength {alpha} is not what it must be")
        place = f"expected/{strength.adapter}/strength_{alpha:g}"
        entry["alphas"].append({"alpha": alpha, "expected": files.arrays(place, mine, np.float32)})
    return entry
