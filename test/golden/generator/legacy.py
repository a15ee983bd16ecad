"""Adapters of older PEFT: written and computed by that PEFT, in an environment of its own.

`generate.py --legacy 0.13.2=/path/to/python` names the interpreter for a version (requirements-legacy.txt says what
is in it). This module is both sides: `in_old_environment` starts the interpreter, `main` runs in it.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent.parent
INTERPRETERS = {}
"""{PEFT version: path of a Python that has it}; filled by the command line."""


def flatten(forms):
    return {f"{f}|{s}|{o}": array for f, sets in forms.items() for s, outs in sets.items() for o, array in outs.items()}


def unflatten(archive):
    forms = {}
    for key in archive.files:
        form, name, output = key.split("|")
        forms.setdefault(form, {}).setdefault(name, {})[output] = archive[key]
    return forms


def in_old_environment(case, adapter, folder):
    if adapter.peft_version not in INTERPRETERS:
        raise SystemExit(f"{case.name}/{adapter.name} needs --legacy {adapter.peft_version}=PYTHON")
    result = folder.parent / f"{adapter.name}.npz"
    command = [INTERPRETERS[adapter.peft_version], "-m", "generator.legacy", case.name, adapter.name, folder, result]
    subprocess.run([str(part) for part in command], cwd=HERE, check=True)
    with np.load(result) as archive:
        forms = unflatten(archive)
    result.unlink()
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").unlink()
    return forms, modules


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("adapter")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("result", type=pathlib.Path)
    options = parser.parse_args()

    import peft

    from . import adapters, precision, registry

    case = registry.load(options.case)
    adapter = next(a for a in case.adapters if a.name == options.adapter)
    if peft.__version__ != adapter.peft_version:
        sys.exit(f"this is PEFT {peft.__version__}, not {adapter.peft_version}")
    adapters.write(adapter, case.build, options.folder)
    args = (adapter, case.build, options.folder, case.run_forward, case.inputs)
    forms = {
        "base": {n: precision.run(case.build(), case.run_forward, a, True) for n, a in case.inputs.items()},
        "unmerged": adapters.unmerged(*args),
        "merged": adapters.merged(*args),
        "merged_double": adapters.merged_double(*args),
    }
    np.savez(options.result, **flatten(forms))
    modules = adapters.adapted_modules(adapter, case.build, options.folder)
    (options.folder / "modules.json").write_text(json.dumps(modules))


if __name__ == "__main__":
    main()
