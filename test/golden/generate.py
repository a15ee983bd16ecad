"""Writes the reference cases next to this file: what Hugging Face PEFT computes for BOFT and OFT adapters.

    pip install -r requirements.txt
    OMP_NUM_THREADS=1 python generate.py [--only CASE[,CASE]] [--out FOLDER] [--list]
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

HERE = pathlib.Path(__file__).resolve().parent


def main():
    if os.environ.get("PYTHONHASHSEED") != "0":  # PEFT writes sets: their order must not change the files
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="comma-separated case names")
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--list", action="store_true", help="print the case names and stop")
    options = parser.parse_args()

    from generator.case import write_case
    from generator.registry import CASES

    if options.list:
        print("\n".join(CASES))
        return
    names = options.only.split(",") if options.only else list(CASES)
    for name in names:
        if name not in CASES:
            parser.error(f"no case named {name}; --list prints them")
    for name in names:
        write_case(CASES[name](), options.out)


if __name__ == "__main__":
    main()
