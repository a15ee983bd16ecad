"""Exports by Optimum, which needs an older transformers: run in an environment of its own.

`generate.py --optimum PYTHON` names its interpreter (requirements-optimum.txt says what is in it). This module is both
sides: `export` saves the model and starts the interpreter, `main` runs in it.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import onnx

INTERPRETER = []
"""The path of a Python that has Optimum; filled by the command line."""


def export(build, task, opset, name="model.onnx"):
    """A `make` for Export: what `optimum-cli export onnx` writes for the model that `build` makes."""

    def make(_, path):
        if not INTERPRETER:
            raise SystemExit("Optimum's exports need --optimum PYTHON")
        with tempfile.TemporaryDirectory() as place:
            source, target = pathlib.Path(place, "torch"), pathlib.Path(place, "onnx")
            build().save_pretrained(source)
            command = [INTERPRETER[0], __file__, str(source), str(target), task, str(opset)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise AssertionError(done.stdout + done.stderr)
            shutil.copy(target / name, path)
        model = onnx.load(path)
        model.doc_string = ""
        onnx.save(model, path)

    return make


def main():
    from optimum.exporters.onnx import main_export

    source, target, task, opset = sys.argv[1:]
    main_export(source, output=target, task=task, opset=int(opset), do_validation=False, no_post_process=False)


if __name__ == "__main__":
    main()
