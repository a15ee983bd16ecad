"""The maths of orthogonal adapters once more, in numpy float64, from the files alone.

Shares no code with PEFT. It proves PEFT's outputs (every adapter is checked against it), and it is the only
reference where PEFT has none: strengths, compositions that PEFT cannot hold, quantised bases.

A linear module with weight W [out, in] becomes W' = s * (R W^T)^T, so that y = ((x R) W^T) * s + bias.
"""

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


def neumann(skew, terms, last=1.0):
    """I + 2Q + 2Q^2 + ... with `terms` terms, the highest power having coefficient `last` (never for Q itself)."""
    one, total = np.eye(skew.shape[-1]), np.eye(skew.shape[-1])[None].repeat(len(skew), 0)
    if terms > 1:
        total = total + 2 * skew
    if terms > 2:
        power = skew @ skew
        total = total + 2 * power
        for _ in range(3, terms - 1):
            power = power @ skew
            total = total + 2 * power
        total = total + last * (power @ skew)
    return total if terms > 0 else one


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
        last = 1.0 if config.get("peft_version") else 2.0
        blocks = neumann(skew, config["num_cayley_neumann_terms"], last)
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


def rotations(folder, modules, strength=1.0):
    """{module: (R [in, in], s [out] or None)} of a file; `modules` maps names to the base's torch modules."""
    config, tensors = read(folder)
    found = {}
    for key, raw in tensors.items():
        if key.endswith(".boft_R"):
            name = key.removesuffix(".boft_R")
            scale = tensors[f"{name}.boft_s"].reshape(-1)
            found[name] = (boft_rotation(raw, strength), 1.0 + strength * (scale - 1.0))
        elif key.endswith((".oft_R.weight", ".oft_embedding_R.weight")):
            name = key.removesuffix(".weight").rpartition(".")[0]
            found[name] = (oft_rotation(raw, config, width_of(modules[name]), strength), None)
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
        setattr(model.get_submodule(owner), leaf, nn.Parameter(torch.from_numpy(value), requires_grad=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, (rotation, scale) in rotations(folder, modules, strength).items():
        module = modules[name]
        weight = module.weight.detach().numpy()
        if isinstance(module, nn.Embedding):
            merged = weight @ rotation
        else:
            flat = weight.reshape(len(weight), -1)
            merged = ((rotation @ flat.T).T * (1.0 if scale is None else scale[:, None])).reshape(weight.shape)
        # A parameter of its own: a weight tied to another module must not follow.
        module.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(merged)), requires_grad=False)
    return model
