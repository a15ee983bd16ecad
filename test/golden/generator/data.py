"""Inputs of the cases: seeded, some rows padded."""

import numpy as np

from .weights import seeded


def text(sets, vocabulary, seed, token_types=False, positions=False, pad_left=False, first=3):
    """{set: {input_ids, attention_mask, ...}} for sets = {name: [length of each row]}."""
    generator, result = seeded(seed), {}
    for name, lengths in sets.items():
        width = max(lengths)
        ids = generator.integers(first, vocabulary, (len(lengths), width))
        mask = np.zeros((len(lengths), width), np.int64)
        for row, length in enumerate(lengths):
            mask[row, width - length if pad_left else 0 : width if pad_left else length] = 1
        arrays = {"input_ids": np.where(mask == 1, ids, 0).astype(np.int64), "attention_mask": mask}
        if token_types:
            arrays["token_type_ids"] = ((np.arange(width) >= width // 2) * mask).astype(np.int64)
        if positions:
            arrays["position_ids"] = np.maximum(np.cumsum(mask, 1) - 1, 0)
        result[name] = arrays
    return result


def images(sets, channels, size, seed):
    generator = seeded(seed)
    return {
        name: {"pixel_values": generator.standard_normal((rows, channels, size, size)).astype(np.float32)}
        for name, rows in sets.items()
    }


TEXT_AXES = {0: "batch", 1: "sequence"}


def text_axes(names):
    return {name: TEXT_AXES for name in names}
