"""Decoder-only language models: Llama."""

import functools

from transformers import LlamaConfig, LlamaForCausalLM

from ..adapters import Adapter
from ..case import Case, Composition, Strength
from ..configs import boft, oft
from ..data import text, text_axes
from ..export import Export
from ..weights import randomise_base

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
SETS = {"b1s5": [5], "b3s8": [8, 6, 3]}


def build_llama(tied=False, attention="sdpa"):
    config = LlamaConfig(
        vocab_size=48, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=32, use_cache=False, attn_implementation=attention,
        tie_word_embeddings=tied,
    )
    return randomise_base(LlamaForCausalLM(config), 7101)


def llama_causal():
    names = ["input_ids", "attention_mask", "position_ids"]
    return Case(
        name="llama_causal",
        about="Llama with grouped key and value heads, without biases: MatMul alone, Gemm nowhere.",
        build=build_llama,
        inputs=text(SETS, 48, 21, positions=True),
        outputs=["logits"],
        dynamic=text_axes(names),
        exports=[
            Export(opset=17),
            Export("base_nofold.onnx", fold=False, opset=15),
            Export("base_dynamo.onnx", kind="dynamo", opset=21),
        ],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=ATTENTION), 201),
            Adapter("boft_b4_m3_layers02", boft(4, 3, target_modules=ATTENTION + ["gate_proj", "up_proj"],
                    layers_to_transform=[0, 2]), 202),
            Adapter("boft_b6_m2_down", boft(6, 2, target_modules=["down_proj"]), 203, "48 inputs in blocks of 6"),
            Adapter("boft_b3_m1_down", boft(3, target_modules=["down_proj"]), 204, "odd block size, allowed for m = 1"),
            Adapter("boft_b8_m1_regex", boft(8, target_modules=r".*\.(q|v)_proj"), 205, "target_modules is a pattern"),
            Adapter("boft_b8_m2_all_lmhead", boft(8, 2, target_modules=ATTENTION + ["gate_proj", "up_proj", "lm_head"]),
                    206, "PEFT also stores lm_head.base_layer.weight"),
            Adapter("oft_b8_attn", oft(8, target_modules=ATTENTION), 207, angle=0.05),
            Adapter("oft_r3_down", oft(r=3, target_modules=["down_proj"]), 208, "three blocks of 16", angle=0.05),
            Adapter("boft_b8_m2_attn_second", boft(8, 2, target_modules=ATTENTION), 209, "for compositions"),
        ],
        compositions=[Composition(["boft_b8_m2_attn", "boft_b8_m2_attn_second"])],
        strengths=[Strength("boft_b8_m2_attn")],
    )

