"""PEFT's side of `npm run bench -- peft`.

Reads one JSON command a line and answers each with one JSON line; the first is {"op": "open", ...}. With --check it
only says which of the packages it needs are installed, and in which version.
"""

import json
import os
import re
import sys
import time
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "peft", "transformers", "numpy")
MATMUL_SIZE = 2048


def installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def milliseconds(work):
    started = time.perf_counter()
    result = work()
    return 1000 * (time.perf_counter() - started), result


class BlockDiagonal:
    """In place of PEFT's CUDA extension: blocks [N, D, b, b] on the diagonals of [N, D*b, D*b], in two copies.

    Without it PEFT silently makes m = 1. Only this function is replaced; everything else is PEFT's.
    """

    seconds = 0.0

    @classmethod
    def forward(cls, blocks):
        started = time.perf_counter()
        n, d, b, _ = blocks.shape
        spread = blocks.new_zeros(n, d, b, d, b)
        spread.diagonal(dim1=1, dim2=3).copy_(blocks.permute(0, 2, 3, 1))
        cls.seconds += time.perf_counter() - started
        return [spread.view(n, d * b, d * b)]


class Bench:
    def __init__(self, order):
        import numpy
        import peft
        import peft.tuners.boft.layer as boft
        import torch
        import transformers

        self.torch = torch
        torch.set_num_threads(order["threads"])
        boft.get_fbd_cuda = lambda: BlockDiagonal
        shape = order["shape"]
        config = transformers.BertConfig(
            vocab_size=shape["vocabulary"],
            hidden_size=shape["hidden"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            intermediate_size=shape["intermediate"],
            max_position_embeddings=shape["positions"],
            num_labels=shape["labels"],
        )
        base = transformers.BertForSequenceClassification(config).eval()
        data = numpy.memmap(order["data"], dtype=numpy.uint8, mode="r")
        base.load_state_dict({name: self.tensor(data, **where) for name, where in order["weights"].items()})
        ids = torch.tensor([order["ids"]])
        self.inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        self.load_ms = []
        self.model = None
        for name, folder in order["adapters"].items():
            ms, _ = milliseconds(lambda: self.load(peft, base, name, folder))
            self.load_ms.append(ms)
        self.model.eval()

    def tensor(self, data, offset, shape, transposed):
        count = 4
        for size in shape:
            count *= size
        values = data[offset : offset + count].view("<f4").reshape(shape)
        return self.torch.tensor(values.T if transposed else values).contiguous()

    def load(self, peft, base, name, folder):
        if self.model is None:
            self.model = peft.PeftModel.from_pretrained(base, folder, adapter_name=name)
        else:
            self.model.load_adapter(folder, adapter_name=name)

    def about(self):
        torch = self.torch
        build = torch.__config__.show()
        blas = re.search(r"BLAS_INFO=(\w+)", build)
        library = re.search(r"- (.*(?:Math Kernel Library|OpenBLAS).*?)(?: for .*)?$", build, re.MULTILINE)
        capability = re.search(r"CPU capability usage: (\S+)", build)
        parts = [blas and blas[1], library and library[1], capability and capability[1]]
        square = torch.rand(MATMUL_SIZE, MATMUL_SIZE)
        square @ square
        best = min(milliseconds(lambda: square @ square)[0] for _ in range(3))
        buffers = (value for name, value in self.model.named_buffers() if "boft_P" in name)
        return {
            "versions": {package: installed(package) for package in PACKAGES},
            "python": sys.version.split()[0],
            "threads": torch.get_num_threads(),
            "blas": ", ".join(part for part in parts if part) or "unknown",
            "gflops": 2 * MATMUL_SIZE**3 / best / 1e6,
            "loadMs": self.load_ms,
            "permutationMb": sum(value.numel() * value.element_size() for value in buffers) / 1e6,
        }

    def forward(self, plain=False):
        BlockDiagonal.seconds = 0.0
        with self.model.disable_adapter() if plain else nullcontext():
            ms, output = milliseconds(lambda: self.model(**self.inputs))
        return {"ms": ms, "logits": output.logits[0].tolist(), "standInMs": 1000 * BlockDiagonal.seconds}

    def run(self, order):
        with self.torch.no_grad():
            match order["op"]:
                case "about":
                    return self.about()
                case "base":
                    return self.forward(plain=True)
                case "forward":
                    return self.forward()
                case "activate":
                    return {"ms": milliseconds(lambda: self.model.set_adapter(order["adapter"]))[0]}
                case "merge":
                    return {"ms": milliseconds(self.model.merge_adapter)[0]}
                case "unmerge":
                    return {"ms": milliseconds(self.model.unmerge_adapter)[0]}
                case other:
                    raise ValueError(f"unknown command {other}")


def main():
    if "--check" in sys.argv:
        print(json.dumps({package: installed(package) for package in PACKAGES}))
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    # What libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    bench = None
    for line in sys.stdin:
        order = json.loads(line)
        if order["op"] == "open":
            bench = Bench(order)
            answer = bench.run({"op": "about"})
        else:
            answer = bench.run(order)
        print(json.dumps(answer), file=answers, flush=True)


main()
