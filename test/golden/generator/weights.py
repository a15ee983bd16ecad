"""Seeded random weights: large enough that a wrong rotation shows in the outputs, drawn by numpy so that no
release of torch changes them."""

import numpy as np
import torch
from torch import nn


def seeded(seed):
    return np.random.Generator(np.random.PCG64(seed))


def fill(tensor, generator, std, mean=0.0):
    values = np.asarray(generator.standard_normal(tuple(tensor.shape)) * std + mean)
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(values.astype(np.float32)))


def randomise_base(model, seed, zero_biases=False):
    """Fills every parameter of a base model; tied parameters are filled once."""
    generator = seeded(seed)
    kind = {}
    for name, module in model.named_modules():
        for key, _ in module.named_parameters(recurse=False):
            kind[f"{name}.{key}" if name else key] = module
    for name, parameter in model.named_parameters():
        module = kind[name]
        is_norm = "norm" in type(module).__name__.lower()
        if is_norm and name.endswith("weight"):
            fill(parameter, generator, 0.1, 1.0)
        elif isinstance(module, nn.Embedding):
            fill(parameter, generator, 0.5)
        elif parameter.dim() >= 2:
            fan_in = int(np.prod(parameter.shape[1:]))
            fill(parameter, generator, 1.0 / np.sqrt(fan_in))
        else:
            fill(parameter, generator, 0.0 if zero_biases and not is_norm else 0.1)
    return model.eval()


def randomise_adapter(model, seed, angle):
    """Fills what PEFT would train: skew entries with standard deviation `angle`, scales around 1, biases and heads."""
    generator = seeded(seed)
    for name, parameter in model.named_parameters():
        if ".boft_R." in name or ".oft_R." in name or ".oft_embedding_R." in name or ".oft_r." in name:
            fill(parameter, generator, angle)
        elif ".boft_s." in name or ".oft_s." in name:
            fill(parameter, generator, 0.15, 1.0)
        elif parameter.requires_grad and parameter.dim() >= 2:
            fill(parameter, generator, 1.0 / np.sqrt(parameter.shape[-1]))
        elif parameter.requires_grad and not name.endswith("weight"):
            fill(parameter, generator, 0.3)
