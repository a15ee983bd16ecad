"""CLIP: the two towers as models of their own, and the whole model, whose logits mix the rows of a batch."""

from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ..adapters import Adapter
from ..case import Case
from ..configs import boft, oft
from ..data import images, text, text_axes
from ..export import Export
from ..weights import randomise_base

TEXT = dict(
    vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=16, eos_token_id=49, bos_token_id=48, pad_token_id=0,
)
VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=8,
)
ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
NAMES = ["input_ids", "attention_mask"]


def texts(sets, seed):
    inputs = text(sets, 48, seed)
    for arrays in inputs.values():
        lengths = arrays["attention_mask"].sum(1)
        arrays["input_ids"][range(len(lengths)), lengths - 1] = 49
    return inputs


def build_text():
    return randomise_base(CLIPTextModelWithProjection(CLIPTextConfig(**TEXT, projection_dim=16)), 7501)


def build_vision():
    return randomise_base(CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=16)), 7502)


def build_clip():
    return randomise_base(CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)), 7503)


def clip_text():
    return Case(
        name="clip_text",
        about="CLIP's text tower with its projection.",
        build=build_text,
        inputs=texts({"b1s5": [5], "b3s8": [8, 6, 3]}, 71),
        outputs=["text_embeds", "last_hidden_state"],
        dynamic=text_axes(NAMES),
        exports=[Export(opset=17), Export("base_dynamo.onnx", kind="dynamo", opset=18)],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=ATTENTION), 511),
            Adapter("boft_b4_m2_mlp_projection", boft(4, 2, target_modules=["fc1", "fc2", "text_projection"]), 512,
                    "a projection without bias over (batch, width) is a MatMul"),
            Adapter("boft_b8_m1_biasonly", boft(8, target_modules=["q_proj", "v_proj"], bias="boft_only"), 513),
            Adapter("oft_b8_attn", oft(8, target_modules=ATTENTION), 514, angle=0.05),
        ],
    )


def clip_vision():
    return Case(
        name="clip_vision",
        about="CLIP's vision tower with its projection; the patch embedding has no bias.",
        build=build_vision,
        inputs=images({"b1": 1, "b2": 2}, 3, 16, 72),
        outputs=["image_embeds", "last_hidden_state"],
        dynamic={"pixel_values": {0: "batch"}},
        exports=[Export(opset=17), Export("base_nofold.onnx", fold=False, opset=17)],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=ATTENTION), 521),
            Adapter("boft_b12_m2_patches", boft(12, 2, target_modules=["patch_embedding", "fc1"],
                    exclude_modules=r".*layers.*"), 522, "192 inputs; exclude_modules leaves the convolution only"),
            Adapter("boft_b16_m1_projection", boft(16, target_modules=["visual_projection", "fc2"]), 523),
            Adapter("oft_b8_attn", oft(8, target_modules=ATTENTION), 524, angle=0.05),
        ],
    )


def clip_whole():
    inputs = {
        name: {**arrays, **images({name: rows}, 3, 16, 73)[name]}
        for rows, (name, arrays) in zip((1, 2), texts({"b1s5": [5], "b2s6": [6, 4]}, 74).items())
    }
    mixing = "logits_per_image compares every image with every text of the batch: one request is one batch"
    return Case(
        name="clip_whole",
        about="The whole CLIP: rows of a batch meet in logits_per_image, so requests cannot share a batch.",
        build=build_clip,
        inputs=inputs,
        outputs=["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
        dynamic={
            "input_ids": {0: "text_batch", 1: "sequence"},
            "attention_mask": {0: "text_batch", 1: "sequence"},
            "pixel_values": {0: "image_batch"},
        },
        mixable=False,
        exports=[Export(opset=17)],
        adapters=[
            Adapter("boft_b8_m2_text", boft(8, 2, target_modules=r".*text_model.*\.(q|k|v)_proj"), 531, mixing),
            Adapter("boft_b8_m1_both", boft(8, target_modules=["q_proj", "visual_projection"]), 532, mixing),
            Adapter("oft_b8_vision", oft(8, target_modules=r".*vision_model.*\.(q|v)_proj"), 533, mixing, angle=0.05),
        ],
    )
