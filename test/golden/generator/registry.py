"""Every case by name. A family is imported when one of its cases is asked for: old environments lack some models."""

import importlib

FAMILIES = {
    "encoders": ["bert_seqcls"],
    "causal": ["llama_causal"],
    "vision": ["vit"],
    "orthogonal": ["bert_oft", "bert_oft_legacy", "bert_boft_legacy"],
}
NAMES = [name for names in FAMILIES.values() for name in names]


def load(name):
    family = next(family for family, names in FAMILIES.items() if name in names)
    return getattr(importlib.import_module(f".families.{family}", __package__), name)()
