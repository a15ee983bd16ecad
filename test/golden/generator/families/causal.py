"""Decoder-only language models: Llama, Qwen2, GPT-2."""

import functools
import json

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import DynamicCache
from transformers.pytorch_utils import Conv1D

from .. import optimum_tool
from ..adapters import Adapter
from ..case import Case
from ..combined import Composition, Strength
from ..configs import boft, oft
from ..data import text, text_axes
from ..export import Export
from ..weights import randomise_base, seeded

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
SETS = {"b1s5": [5], "b3s8": [8, 6, 3]}


def build_llama(tied=False, attention="sdpa", layers=2):
    config = LlamaConfig(
        vocab_size=48, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
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
            Export("base_optimum.onnx", kind="Optimum", make=optimum_tool.export(build_llama, "text-generation", 18)),
        ],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=ATTENTION), 201),
            Adapter("boft_b4_m3_layer1", boft(4, 3, target_modules=ATTENTION + ["gate_proj", "up_proj"],
                    layers_to_transform=[1]), 202),
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



PAST = [f"past_key_values.{layer}.{kind}" for layer in range(2) for kind in ("key", "value")]
PRESENT = [name.replace("past_key_values", "present") for name in PAST]


def past_inputs():
    """A prefill (no past) and one step of two rows after four tokens."""
    generator, sets = seeded(25), {}
    for name, rows, past, width in (("prefill", 1, 0, 5), ("step", 2, 4, 1)):
        arrays = {
            "input_ids": generator.integers(3, 48, (rows, width)).astype(np.int64),
            "attention_mask": np.ones((rows, past + width), np.int64),
            "position_ids": np.broadcast_to(np.arange(past, past + width), (rows, width)).astype(np.int64),
        }
        for key in PAST:
            arrays[key] = generator.standard_normal((rows, 2, past, 8)).astype(np.float32)
        sets[name] = arrays
    return sets


def with_cache(model, tensors):
    tensors, cache = dict(tensors), DynamicCache()
    for layer in range(2):
        cache.update(*(tensors.pop(f"past_key_values.{layer}.{kind}") for kind in ("key", "value")), layer)
    logits = model(**tensors, past_key_values=cache, use_cache=True).logits
    present = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return dict(zip(["logits", *PRESENT], [logits, *present]))


def llama_past():
    sequence = {0: "batch", 1: "sequence"}
    return Case(
        name="llama_past",
        about="Llama with a cache of keys and values, as Optimum exports it for generation.",
        build=build_llama,
        inputs=past_inputs(),
        outputs=["logits", *PRESENT],
        dynamic={"input_ids": sequence, "attention_mask": sequence, "position_ids": sequence,
                 **{name: {0: "batch", 2: "past"} for name in PAST}},
        exports=[Export(kind="Optimum", make=optimum_tool.export(build_llama, "text-generation-with-past", 18))],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=ATTENTION), 251, "the cache holds rotated keys and values"),
            Adapter("boft_b4_m1_kv_mlp", boft(4, target_modules=["k_proj", "v_proj", *MLP]), 252),
            Adapter("oft_b8_attn", oft(8, target_modules=ATTENTION), 253, angle=0.05),
        ],
        forward=with_cache,
    )


TIED = "PEFT's merge also changes the embedding that shares the weight; its forward pass does not"


def llama_tied():
    names = ["input_ids", "attention_mask", "position_ids"]
    return Case(
        name="llama_tied",
        about="Llama whose lm_head shares the embedding's weight: folded exports copy it, others feed Gather and Transpose.",
        build=functools.partial(build_llama, tied=True, layers=1),
        inputs=text({"b2s6": [6, 4]}, 48, 22, positions=True),
        outputs=["logits"],
        dynamic=text_axes(names),
        exports=[
            Export(opset=17),
            Export("base_nofold.onnx", fold=False, opset=17),
            Export("base_dynamo.onnx", kind="dynamo", opset=18),
        ],
        adapters=[
            Adapter("boft_b8_m2_lmhead", boft(8, 2, target_modules=["lm_head"]), 221, merged_differs=TIED),
            Adapter("boft_b8_m1_lmhead_attn", boft(8, target_modules=["lm_head", "q_proj", "v_proj"]), 222,
                    merged_differs=TIED),
            Adapter("oft_b8_embed", oft(8, target_modules=["embed_tokens"]), 223, angle=0.1, merged_differs=TIED),
            Adapter("oft_b8_embed_attn", oft(8, target_modules=["embed_tokens", "q_proj"]), 224, angle=0.1,
                    merged_differs=TIED),
        ],
    )


def build_qwen2():
    config = Qwen2Config(
        vocab_size=48, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=32, use_cache=False, tie_word_embeddings=False,
    )
    return randomise_base(Qwen2ForCausalLM(config), 7102)


def qwen2_causal():
    names = ["input_ids", "attention_mask", "position_ids"]
    return Case(
        name="qwen2_causal",
        about="Qwen2: q, k and v have biases, o and the MLP have none.",
        build=build_qwen2,
        inputs=text({"b1s5": [5], "b2s7": [7, 4]}, 48, 23, positions=True),
        outputs=["logits"],
        dynamic=text_axes(names),
        exports=[Export(opset=17), Export("base_dynamo.onnx", kind="dynamo", opset=23)],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=ATTENTION), 231, "the biases are not scaled"),
            Adapter("boft_b8_m1_qv_biasonly", boft(8, target_modules=["q_proj", "v_proj"], bias="boft_only"), 232),
            Adapter("boft_b4_m2_mlp", boft(4, 2, target_modules=MLP), 233),
            Adapter("boft_b8_m2_layer1", boft(8, 2, target_modules=ATTENTION, layers_to_transform=1), 234),
            Adapter("oft_b16_attn", oft(16, target_modules=ATTENTION), 235, angle=0.05),
        ],
        compositions=[Composition(["boft_b8_m2_attn", "boft_b4_m2_mlp"], "disjoint modules")],
    )


def build_gpt2():
    config = GPT2Config(
        vocab_size=48, n_embd=32, n_layer=2, n_head=4, n_inner=64, n_positions=24, use_cache=False, bos_token_id=1,
        eos_token_id=2,
    )
    return randomise_base(GPT2LMHeadModel(config), 7103)


def with_linears(model):
    """The same GPT-2 with every Conv1D held in nn.Linear: PEFT refuses Conv1D for BOFT and OFT."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = torch.nn.Linear(*module.weight.shape)
            linear.weight.data = module.weight.data.T.contiguous().clone()
            linear.bias.data = module.bias.data.clone()
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, linear)
    return model


def say_fan_in_fan_out(folder):
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["fan_in_fan_out"] = True
    file.write_text(json.dumps(config, indent=2))


def gpt2_causal():
    swapped = "PEFT refuses Conv1D: computed on the same weights held in nn.Linear"
    return Case(
        name="gpt2_causal",
        about="GPT-2: c_attn packs q, k and v in one module; Conv1D becomes Gemm with transB = 0; lm_head is tied to wte.",
        build=build_gpt2,
        inputs=text({"b1s5": [5], "b2s7": [7, 4]}, 48, 24, positions=True),
        outputs=["logits"],
        dynamic=text_axes(["input_ids", "attention_mask", "position_ids"]),
        exports=[
            Export(opset=17),
            Export("base_nofold.onnx", fold=False, opset=15),
            Export("base_dynamo.onnx", kind="dynamo", opset=18),
        ],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=["c_attn", "attn.c_proj"]), 241,
                    f"{swapped}; fan_in_fan_out written into the configuration", swap=with_linears, edit=say_fan_in_fan_out),
            Adapter("boft_b4_m2_mlp_biasonly", boft(4, 2, target_modules=["c_fc", "mlp.c_proj"], bias="boft_only"), 242,
                    swapped, swap=with_linears),
            Adapter("boft_b16_m1_lmhead", boft(16, target_modules=["lm_head"]), 243, "the real GPT-2",
                    merged_differs=TIED),
            Adapter("oft_b8_all", oft(8, target_modules=["c_attn", "c_proj", "c_fc"]), 244, swapped, swap=with_linears,
                    angle=0.05),
        ],
        strengths=[Strength("boft_b8_m2_attn", (0.5,))],
    )
