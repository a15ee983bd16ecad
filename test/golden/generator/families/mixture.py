"""A mixture of experts: gate and experts see (tokens, hidden), where the rows of a batch cannot be told apart."""

import torch
import torch.nn.functional as F
from torch import nn

from ..adapters import Adapter
from ..case import Case
from ..configs import boft
from ..data import text, text_axes
from ..export import Export
from ..weights import randomise_base

TOKENS = "the gate and the experts have no batch dimension: one adapter a batch"


class Expert(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)
        self.w3 = nn.Linear(width, inner, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Mixture(nn.Module):
    """Two of four experts a token, computed densely and weighted."""

    def __init__(self, width, inner, count=4):
        super().__init__()
        self.gate = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList([Expert(width, inner) for _ in range(count)])

    def forward(self, hidden):
        tokens = hidden.reshape(-1, hidden.shape[-1])
        scores = torch.softmax(self.gate(tokens), -1)
        best = torch.topk(scores, 2, -1).values
        kept = scores * (scores >= best[:, 1:])
        kept = kept / kept.sum(-1, keepdim=True)
        total = torch.stack([expert(tokens) for expert in self.experts], -1)
        return (total * kept[:, None, :]).sum(-1).reshape(hidden.shape)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(40, 32)
        self.proj = nn.Linear(32, 32)
        self.norm = nn.LayerNorm(32)
        self.block_sparse_moe = Mixture(32, 24)
        self.head = nn.Linear(32, 6)

    def forward(self, input_ids, attention_mask):
        hidden = self.proj(self.embed(input_ids))
        hidden = hidden + self.block_sparse_moe(self.norm(hidden))
        mask = attention_mask[:, :, None].to(hidden.dtype)
        return self.head((hidden * mask).sum(1) / mask.sum(1))


def mixture():
    return Case(
        name="mixture",
        about="A mixture-of-experts layer over flattened tokens.",
        build=lambda: randomise_base(Model(), 7601),
        inputs=text({"b1s5": [5], "b3s6": [6, 4, 3]}, 40, 81),
        outputs=["logits"],
        dynamic=text_axes(["input_ids", "attention_mask"]),
        exports=[Export(opset=17), Export("base_dynamo.onnx", kind="dynamo", opset=18)],
        adapters=[
            Adapter("boft_b8_m2_experts", boft(8, 2, target_modules=["w1", "w3"]), 541, TOKENS, extra={"mixable": False}),
            Adapter("boft_b8_m1_gate", boft(8, target_modules=["gate", "w2"]), 542, TOKENS, extra={"mixable": False}),
            Adapter("boft_b8_m2_proj", boft(8, 2, target_modules=["proj"]), 543, "a site with a batch dimension",
                    extra={"mixable": True}),
        ],
    )
