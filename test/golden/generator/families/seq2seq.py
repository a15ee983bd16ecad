"""T5, exported as users do: the encoder alone (without its prefix), the decoder with the head."""

import functools

import numpy as np
from transformers import T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from .. import optimum_tool
from ..adapters import Adapter
from ..case import Case
from ..configs import boft, oft
from ..data import text, text_axes
from ..export import Export
from ..weights import randomise_base, seeded
from .causal import TIED

SELF = ["SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o"]
BOTH = "adapts both halves of the model: this export holds one of them"


def build_t5(attention="sdpa"):
    config = T5Config(
        vocab_size=40, d_model=32, d_kv=8, num_heads=4, d_ff=48, num_layers=2, bos_token_id=1, decoder_start_token_id=0, feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=8, relative_attention_max_distance=16, use_cache=False,
        attn_implementation=attention,
    )
    return randomise_base(T5ForConditionalGeneration(config), 7401)


eager = functools.partial(build_t5, "eager")


def whole(model):
    """The T5 inside a PEFT model, or the model itself."""
    return model.base_model.model if hasattr(model, "peft_config") else model


def encode(model, tensors):
    return {"last_hidden_state": whole(model).encoder(**tensors).last_hidden_state}


def decode_with(self, input_ids, encoder_attention_mask, encoder_hidden_states):
    return T5ForConditionalGeneration.forward(
        self, decoder_input_ids=input_ids, attention_mask=encoder_attention_mask,
        encoder_outputs=BaseModelOutput(last_hidden_state=encoder_hidden_states),
    ).logits


def decode(model, tensors):
    return {"logits": decode_with(whole(model), **tensors)}


def only(half, *modules):
    return rf".*{half}\..*\.({'|'.join(modules)})"


def adapters():
    return {
        "encoder": [
            Adapter("boft_b8_m2_encoder", boft(8, 2, target_modules=only("encoder", "q", "k", "v", "o")), 501),
            Adapter("boft_b4_m2_encoder_ff", boft(4, 2, target_modules=only("encoder", "wi_0", "wi_1", "wo")), 502),
            Adapter("oft_b8_encoder", oft(8, target_modules=only("encoder", "q", "v")), 503, angle=0.05),
        ],
        "decoder": [
            Adapter("boft_b8_m2_decoder", boft(8, 2, target_modules=only("decoder", "q", "k", "v", "o")), 504,
                    "self and cross attention; k and v of cross attention act on the encoder's output"),
            Adapter("boft_b4_m3_decoder_ff", boft(4, 3, target_modules=only("decoder", "wi_0", "wi_1")), 505),
            Adapter("boft_b8_m1_lmhead", boft(8, target_modules=["lm_head"]), 506, merged_differs=TIED),
            Adapter("oft_b16_decoder", oft(16, target_modules=only("decoder", "q", "v")), 507, angle=0.05),
        ],
    }


def both():
    return Adapter("boft_b8_m1_both", boft(8, target_modules=["q", "v"]), 508, BOTH, expect="optional")


def refused(adapter):
    return Adapter(adapter.name, adapter.config, adapter.seed, "adapts the other half only: suffixes of its names match here",
                   expect="error", angle=adapter.angle)


def t5_encoder():
    ours, others = adapters()["encoder"], adapters()["decoder"]
    return Case(
        name="t5_encoder",
        about="T5's encoder: PEFT's keys say encoder.block.0..., the graph says block.0....",
        build=build_t5,
        inputs=text({"b1s5": [5], "b2s7": [7, 4]}, 40, 61),
        outputs=["last_hidden_state"],
        dynamic=text_axes(["input_ids", "attention_mask"]),
        exports=[
            Export(opset=17),
            Export("base_optimum.onnx", kind="Optimum", make=optimum_tool.export(
                build_t5, "text2text-generation", 17, "encoder_model.onnx")),
            Export("base_dynamo.onnx", kind="dynamo", opset=18, build=eager, note="attention written out"),
        ],
        adapters=[*ours, both(), refused(others[0])],
        export_model=lambda model: model.encoder,
        forward=encode,
    )


def decoder_inputs():
    sets = {}
    for name, seed, lengths, source in (("b1s4", 62, [4], [5]), ("b2s6", 63, [6, 6], [7, 4])):
        generator = seeded(seed)
        ids = text({name: lengths}, 40, seed)[name]["input_ids"]
        mask = (np.arange(max(source))[None] < np.array(source)[:, None]).astype(np.int64)
        hidden = generator.standard_normal((len(source), max(source), 32)).astype(np.float32)
        sets[name] = {"input_ids": ids, "encoder_attention_mask": mask, "encoder_hidden_states": hidden}
    return sets


def t5_decoder():
    ours, others = adapters()["decoder"], adapters()["encoder"]
    return Case(
        name="t5_decoder",
        about="T5's decoder with lm_head, tied to the embedding; encoder_hidden_states is an input.",
        build=build_t5,
        inputs=decoder_inputs(),
        outputs=["logits"],
        dynamic={
            "input_ids": {0: "batch", 1: "sequence"},
            "encoder_attention_mask": {0: "batch", 1: "source"},
            "encoder_hidden_states": {0: "batch", 1: "source"},
        },
        exports=[
            Export(kind="Optimum", make=optimum_tool.export(build_t5, "text2text-generation", 15, "decoder_model.onnx"), atol=5e-5),
            Export("base_dynamo.onnx", kind="dynamo", opset=18, build=eager, note="attention written out"),
        ],
        adapters=[*ours, both(), refused(others[0])],
        export_forward=decode_with,
        forward=decode,
    )
