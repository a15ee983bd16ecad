"""The maths of orthogonal adapters once more, in numpy float64, from the files alone.

Shares no code with PEFT. It proves PEFT's outputs (every adapter is checked against it), and it is the only
reference where PEFT has none: strengths, compositions that PEFT cannot hold, quantised bases.

A linear module with weight W [out, in] becomes W' = s * (R W^T)^T, so that y = ((x R) W^T) * s + bias.
"""

import dataclasses
import json
import math
import pathlib

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

PREFIX = "base_model.model."


def read(folder):
    folder = pathlib.Path(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = {}
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        for key in file.keys():
            tensors[key.removeprefix(PREFIX)] = file.get_tensor(key).double().numpy()
    return config, tensors


def cayley(skew):
    one = np.eye(skew.shape[-1])
    return np.linalg.solve(one + skew, one - skew)  # the two factors commute


def neumann(skew, terms, legacy=False):
    """I + 2Q + 2Q^2 + ...: since 0.18 the highest power has coefficient 1 (3 terms reach Q^3, like 4; 6 reach Q^5);
    in 0.16 and 0.17 every power has coefficient 2 and `terms` terms reach Q^(terms - 1)."""
    if legacy or terms <= 2:
        coefficients = [1.0] + [2.0] * (terms - 1)
    else:
        coefficients = [1.0] + [2.0] * (max(terms, 4) - 2) + [1.0]
    total, power = np.zeros_like(skew), np.eye(skew.shape[-1])[None].repeat(len(skew), 0)
    for coefficient in coefficients:
        total, power = total + coefficient * power, power @ skew
    return total


def block_diagonal(blocks):
    b = blocks.shape[-1]
    matrix = np.zeros((len(blocks) * b, len(blocks) * b))
    for k, block in enumerate(blocks):
        matrix[k * b : (k + 1) * b, k * b : (k + 1) * b] = block
    return matrix


def butterfly_permutation(level, width, b):
    """p with (P v)[a] = v[p[a]]: within chunks of b * 2^level, half blocks are dealt even ones first."""
    p, half = np.arange(width), b // 2
    if level == 0:
        return p
    pieces = 2 ** (level + 1)
    chunk = pieces * half
    for start in range(0, width, chunk):
        for j in range(pieces):
            source = 2 * j if 2 * j < pieces else 2 * j - pieces + 1
            p[start + j * half : start + (j + 1) * half] = np.arange(half) + start + source * half
    return p


def boft_rotation(raw, strength=1.0):
    """R of boft_R [m, D, b, b]: M_{m-1} ... M_0 with M_i = P_i blockdiag(Q_i) P_i^T."""
    levels, count, b, _ = raw.shape
    rotation = np.eye(count * b)
    for level in range(levels):
        skew = strength * (raw[level] - raw[level].transpose(0, 2, 1)) / 2
        matrix = block_diagonal(cayley(skew))
        p = butterfly_permutation(level, count * b, b)
        permutation = np.zeros_like(matrix)
        permutation[np.arange(len(p)), p] = 1.0
        rotation = permutation @ matrix @ permutation.T @ rotation
    return rotation


def old_oft_rotation(raw, config, width, out, strength=1.0):
    """R of oft_r [r or 1, b, b] of PEFT 0.14 and 0.15 (width = in) or earlier (width = out): exact Cayley."""
    if config["coft"]:
        count = math.ceil(width / raw.shape[-1])
        limit = config["eps"] * math.ceil(out / count) ** 2 / math.sqrt(len(raw))
        norm = np.linalg.norm(raw, axis=(1, 2), keepdims=True)
        raw = np.where(norm <= limit, raw, limit * raw / np.maximum(norm, 1e-300))
    blocks = cayley(strength * (raw - raw.transpose(0, 2, 1)) / 2)
    if len(blocks) * blocks.shape[-1] < width:
        blocks = blocks.repeat(math.ceil(width / blocks.shape[-1]), 0)
    return block_diagonal(blocks)[:width, :width]


def oft_rotation(raw, config, width, strength=1.0):
    """R of oft_R.weight [r or 1, n] as PEFT 0.18 and later (0.16-0.17 differ in the last coefficient)."""
    b = (1 + math.isqrt(1 + 8 * raw.shape[1])) // 2
    upper = np.triu_indices(b, 1)
    skew = np.zeros((len(raw), b, b))
    skew[:, upper[0], upper[1]] = raw
    skew = skew - skew.transpose(0, 2, 1)
    if config["coft"]:
        limit = config["eps"] / math.sqrt(len(raw))
        norm = np.linalg.norm(skew, axis=(1, 2), keepdims=True)
        skew = np.where(norm <= limit, skew, limit * skew / np.maximum(norm, 1e-300))
    skew = strength * skew
    if config["use_cayley_neumann"]:
        blocks = neumann(skew, config["num_cayley_neumann_terms"], legacy="peft_version" not in config)
    else:
        blocks = cayley(skew)
    if len(blocks) * b != width:
        blocks = blocks.repeat(width // b, 0)
    return block_diagonal(blocks)


def width_of(module):
    if isinstance(module, nn.Embedding):
        return module.embedding_dim
    if isinstance(module, nn.Conv2d):
        return module.weight[0].numel()
    return module.in_features


@dataclasses.dataclass(frozen=True)
class Rotation:
    """What an adapter does to one module: y = ((x matrix) W^T) * scale + bias, or ((x W^T) matrix) + bias."""

    matrix: np.ndarray
    scale: np.ndarray | None = None
    on_output: bool = False


def rotations(folder, modules, strength=1.0):
    """{module: Rotation} of a file; `modules` maps names to the base's torch modules."""
    config, tensors = read(folder)
    found = {}
    for key, raw in tensors.items():
        if key.endswith(".boft_R"):
            name = key.removesuffix(".boft_R")
            scale = tensors[f"{name}.boft_s"].reshape(-1)
            found[name] = Rotation(boft_rotation(raw, strength), 1.0 + strength * (scale - 1.0))
        elif key.endswith((".oft_R.weight", ".oft_embedding_R.weight")):
            name = key.removesuffix(".weight").rpartition(".")[0]
            found[name] = Rotation(oft_rotation(raw, config, width_of(modules[name]), strength))
        elif key.endswith(".oft_r"):
            name = key.removesuffix(".oft_r")
            out = len(modules[name].weight)
            if f"{name}.oft_s" in tensors:
                scale = tensors[f"{name}.oft_s"].reshape(-1)
                matrix = old_oft_rotation(raw, config, width_of(modules[name]), out, strength)
                found[name] = Rotation(matrix, 1.0 + strength * (scale - 1.0))
            else:
                found[name] = Rotation(old_oft_rotation(raw, config, out, out, strength), on_output=True)
    return found


def replaced(folder):
    """{parameter name: value} of everything in a file that is not a rotation or scale."""
    _, tensors = read(folder)
    values = {}
    for key, value in tensors.items():
        if ".boft_" in key or ".oft_" in key or ".original_module." in key:
            continue
        if ".modules_to_save." in key:
            continue
        values[key.replace(".base_layer.", ".")] = value
    return values


def apply(model, folder, strength=1.0):
    """Merges a file into a float64 copy of the base, in place, by the definition above."""
    model = model.double()
    for name, value in replaced(folder).items():
        owner, _, leaf = name.rpartition(".")
        if strength != 1.0:
            base = model.get_parameter(name).detach().numpy()
            value = base + strength * (value - base)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(torch.from_numpy(value), requires_grad=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, rotation in rotations(folder, modules, strength).items():
        module = modules[name]
        weight = module.weight.detach().numpy()
        if isinstance(module, nn.Embedding):
            merged = weight @ rotation.matrix
        else:
            flat = weight.reshape(len(weight), -1)
            flat = rotation.matrix.T @ flat if rotation.on_output else (rotation.matrix @ flat.T).T
            merged = (flat * (1.0 if rotation.scale is None else rotation.scale[:, None])).reshape(weight.shape)
        # A parameter of its own: a weight tied to another module must not follow.
        module.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(merged)), requires_grad=False)
    return model
