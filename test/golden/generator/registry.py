"""Every case by name. A family is imported when one of its cases is asked for: old environments lack some models."""

import importlib

FAMILIES = {
    "encoders": ["bert_seqcls", "bert_dedup", "roberta_tokens", "deberta_v3", "albert_shared"],
    "orthogonal": ["bert_oft", "bert_oft_legacy", "bert_boft_legacy"],
    "causal": ["llama_causal", "llama_past", "llama_tied", "qwen2_causal", "gpt2_causal"],
    "vision": ["vit", "dinov2"],
    "unet": ["unet_block"],
    "seq2seq": ["t5_encoder", "t5_decoder"],
    "clip": ["clip_text", "clip_vision", "clip_whole"],
    "mixture": ["mixture"],
    "quantised": [
        "bert_float16", "llama_float16", "bert_int8_dynamic", "bert_int8_static", "bert_int4", "bert_int4_qdq",
        "bert_int8_weights", "bert_ort_extended", "bert_packed_attention",
    ],
}
NAMES = [name for names in FAMILIES.values() for name in names]


def load(name):
    family = next(family for family, names in FAMILIES.items() if name in names)
    return getattr(importlib.import_module(f".families.{family}", __package__), name)()
