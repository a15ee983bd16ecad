"""The base as ONNX, by PyTorch's own TorchScript exporter, and the proof that the file computes the same.

    python export.py
"""

import numpy as np
import onnxruntime
import torch

from router import BASE, load_base

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
TOLERANCE = 1e-5


def export() -> None:
    example = {
        "input_ids": torch.tensor([[2, 10, 11, 3], [2, 12, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "token_type_ids": torch.zeros(2, 4, dtype=torch.long),
    }
    axes = {name: {0: "batch", 1: "sequence"} for name in INPUTS}
    torch.onnx.export(
        load_base(),
        tuple(example[name] for name in INPUTS),
        BASE / "model.onnx",
        input_names=INPUTS,
        output_names=["logits"],
        dynamic_axes=axes | {"logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def check_export() -> None:
    """Same logits as PyTorch at lengths 1 to 128 and batches 1 to 8, and padding changes nothing."""
    session = onnxruntime.InferenceSession(BASE / "model.onnx", providers=["CPUExecutionProvider"])
    model = load_base()
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for rows, length in [(1, 1), (1, 2), (1, 128), (3, 7), (8, 33), (8, 128)]:
        ids = torch.randint(5, model.config.vocab_size, (rows, length), generator=generator)
        for padding in (0, 1, 128 - length):
            if length + padding > 128:
                continue
            inputs = {
                "input_ids": torch.nn.functional.pad(ids, (0, padding)),
                "attention_mask": torch.nn.functional.pad(torch.ones_like(ids), (0, padding)),
            }
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
            with torch.no_grad():
                wanted = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.numpy()
            got = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
            worst = max(worst, float(np.abs(got - wanted).max()))
    print(f"export: at most {worst:.1e} from PyTorch, padded or not")
    assert worst <= TOLERANCE, worst


if __name__ == "__main__":
    export()
    check_export()
