"""A UNet block as diffusers builds it: convolutions, time embedding, self and cross attention, GEGLU."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..adapters import Adapter
from ..case import Case
from ..combined import Composition, Strength
from ..configs import boft, oft
from ..export import Export
from ..weights import randomise_base, seeded
from .vision import OFT_CONV


class TimestepEmbedding(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.linear_1 = nn.Linear(channels, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class ResnetBlock(nn.Module):
    def __init__(self, inner, out, time):
        super().__init__()
        self.norm1 = nn.GroupNorm(4, inner)
        self.conv1 = nn.Conv2d(inner, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, out)
        self.norm2 = nn.GroupNorm(4, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inner, out, 1)

    def forward(self, x, time):
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))


class Attention(nn.Module):
    def __init__(self, width, context, heads=2):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(0.0)])

    def forward(self, x, context=None):
        context = x if context is None else context
        split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # noqa: E731
        q, k, v = split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.to_out[1](self.to_out[0]((weights @ v).transpose(1, 2).flatten(2)))


class GEGLU(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, inner * 2)

    def forward(self, x):
        hidden, gate = self.proj(x).chunk(2, -1)
        return hidden * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, width * 2), nn.Dropout(0.0), nn.Linear(width * 2, width)])

    def forward(self, x):
        for module in self.net:
            x = module(x)
        return x


class TransformerBlock(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1 = Attention(width, width)
        self.attn2 = Attention(width, context)
        self.ff = FeedForward(width)

    def forward(self, x, context):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context)])
        self.proj_out = nn.Linear(width, width)

    def forward(self, x, context):
        hidden = self.proj_in(self.norm(x))
        tokens = hidden.flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        tokens = self.proj_out(tokens)
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Downsampler(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)


class DownBlock(nn.Module):
    def __init__(self, inner, out, time, context):
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(inner, out, time)])
        self.attentions = nn.ModuleList([Transformer(out, context)])
        self.downsamplers = nn.ModuleList([Downsampler(out)])

    def forward(self, x, time, context):
        for resnet, attention in zip(self.resnets, self.attentions):
            x = attention(resnet(x, time), context)
        return self.downsamplers[0](x)


class UNet(nn.Module):
    """One down block between an input and an output convolution."""

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(4, 8, 3, padding=1)
        self.time_embedding = TimestepEmbedding(16, 24)
        self.add_embedding = nn.Sequential(nn.Linear(12, 24), nn.SiLU(), nn.Linear(24, 24))
        self.down_blocks = nn.ModuleList([DownBlock(8, 16, 24, 12)])
        self.conv_norm_out = nn.GroupNorm(4, 16)
        self.conv_out = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, sample, timestep, encoder_hidden_states):
        steps = torch.exp(torch.arange(8, device=sample.device) * (-math.log(10000.0) / 8)).to(sample.dtype)
        angles = timestep[:, None].to(sample.dtype) * steps
        time = self.time_embedding(torch.cat([torch.cos(angles), torch.sin(angles)], -1))
        time = time + self.add_embedding(encoder_hidden_states.mean(1))
        hidden = self.conv_in(sample)
        for block in self.down_blocks:
            hidden = block(hidden, time, encoder_hidden_states)
        return self.conv_out(F.silu(self.conv_norm_out(hidden)))


def build_unet():
    return randomise_base(UNet(), 7301)


def inputs(rows, size, seed):
    generator = seeded(seed)
    return {
        "sample": generator.standard_normal((rows, 4, size, size)).astype(np.float32),
        "timestep": generator.integers(0, 1000, (rows,)).astype(np.int64),
        "encoder_hidden_states": generator.standard_normal((rows, 5, 12)).astype(np.float32),
    }


OLD_CONV = (
    "PEFT 0.13 and before reinterpret the kernel's memory as (in*k*k, out): another function than since 0.14. The file "
    "says nothing of it: current_f64 is the default meaning, unmerged_f64 what its own version computes"
)
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def unet_block():
    return Case(
        name="unet_block",
        about="A UNet block named like diffusers: time_embedding.linear_1 is a real name, a called Sequential repeats "
              "itself, to_k and to_v of cross attention act on another input, 3x3 convolutions can only be merged.",
        build=build_unet,
        inputs={"b1": inputs(1, 8, 51), "b2": inputs(2, 6, 52)},
        outputs=["out_sample"],
        dynamic={"sample": {0: "batch", 2: "height", 3: "width"}, "timestep": {0: "batch"},
                 "encoder_hidden_states": {0: "batch"}},
        exports=[
            Export(opset=17),
            Export("base_nofold.onnx", fold=False, opset=15),
            Export("base_dynamo.onnx", kind="dynamo", opset=18),
        ],
        adapters=[
            Adapter("boft_b2_m2_attn", boft(2, 2, target_modules=ATTENTION), 331, "in=16 and, in cross attention, in=12"),
            Adapter("boft_b4_m1_attn_ff", boft(4, target_modules=[*ATTENTION, "ff.net.0.proj", "ff.net.2"]), 332),
            Adapter("boft_b4_m2_time", boft(4, 2, target_modules=["linear_1", "linear_2", "time_emb_proj", "add_embedding.2"]),
                    333, "Gemm nodes over (batch, width)"),
            Adapter("boft_b9_m1_conv", boft(9, target_modules=["conv1", "conv2", "conv_in"]), 334, "3x3: only by merging"),
            Adapter("boft_b6_m2_conv", boft(6, 2, target_modules=["conv1", "conv_out", "downsamplers.0.conv"],
                    bias="boft_only"), 335, "with trained biases"),
            Adapter("boft_b4_m2_one_by_one", boft(4, 2, target_modules=["conv_shortcut", "proj_in", "proj_out"]), 336,
                    "1x1 convolutions and one linear"),
            Adapter("boft_n4_m1_all", boft(number=4, target_modules=[*ATTENTION, "conv2", "proj_in", "linear_1"]), 337),
            Adapter("oft_b4_attn", oft(4, target_modules=ATTENTION), 338, angle=0.05),
            Adapter("oft_b8_one_by_one", oft(8, target_modules=["conv_shortcut", "proj_in"]), 339, angle=0.1),
            Adapter("oft_b9_conv", oft(9, target_modules=["conv1"]), 340, angle=0.05, numpy_form="merged",
                    merged_differs=OFT_CONV, expect="ambiguous", extra={"definition": "merged_f32"}),
            Adapter("boft_v013_conv", boft(9, target_modules=["conv1", "conv2"]), 341, OLD_CONV, expect="ambiguous",
                    peft_version="0.13.2", numpy_form="", numpy_atol=1e-7, read_today=True,
                    extra={"definition": "current_f64"}),
            Adapter("boft_v015_conv", boft(9, target_modules=["conv1", "conv2"]), 342, peft_version="0.15.2",
                    numpy_atol=1e-7),
        ],
        compositions=[Composition(["boft_b2_m2_attn", "boft_b9_m1_conv"], "disjoint modules")],
        strengths=[Strength("boft_b9_m1_conv", (0.5,)), Strength("boft_b2_m2_attn", (0.5, 1.5))],
    )
