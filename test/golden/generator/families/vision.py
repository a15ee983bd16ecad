"""Vision transformers: ViT and DINOv2."""

import functools

from transformers import Dinov2Config, Dinov2ForImageClassification, ViTConfig, ViTForImageClassification

from ..adapters import Adapter
from ..case import Case
from ..combined import Composition, Strength
from ..configs import boft, oft
from ..data import images
from ..export import Export
from ..weights import randomise_base

OFT_CONV = "PEFT's unmerged OFT convolution rotates overlapping patches and sums them: its merge is another function"
IMAGE_AXES = {"pixel_values": {0: "batch"}}


def build_vit(num_labels=4):
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=16, patch_size=4,
        num_channels=3, num_labels=num_labels, attn_implementation="sdpa",
    )
    return randomise_base(ViTForImageClassification(config), 7201)


ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "fc1", "fc2"]


def vit():
    return Case(
        name="vit",
        about="ViT: the patch embedding is a convolution whose kernel is its stride, so it can be rotated in front.",
        build=build_vit,
        inputs=images({"b1": 1, "b3": 3}, 3, 16, 31),
        outputs=["logits"],
        dynamic=IMAGE_AXES,
        exports=[
            Export(opset=17),
            Export("base_nofold.onnx", fold=False, opset=15),
            Export("base_dynamo.onnx", kind="dynamo", opset=18),
        ],
        adapters=[
            Adapter("boft_b8_m2_all", boft(8, 2, target_modules=ALL), 301),
            Adapter("boft_b4_m2_patches", boft(4, 2, target_modules=["projection", "q_proj"]), 302,
                    "Conv2d: 48 = 3 * 4 * 4 inputs in 12 blocks, boft_s is [1, out]"),
            Adapter("boft_b3_m1_patches", boft(3, target_modules=["projection"]), 303, "odd block size"),
            Adapter("boft_n4_m1_patches_head", boft(number=4, target_modules=["projection", "fc1"],
                    modules_to_save=["classifier"]), 304, "7 labels", build=functools.partial(build_vit, 7),
                    extra={"num_labels": 7}),
            Adapter("boft_b8_m2_patches_biasonly", boft(8, 2, target_modules=["projection", "v_proj"],
                    bias="boft_only"), 305, "the convolution's bias is trained; it is not scaled"),
            Adapter("oft_b8_attn", oft(8, target_modules=ATTENTION), 306, angle=0.05),
            Adapter("oft_b12_patches", oft(12, target_modules=["projection"]), 307, angle=0.05, numpy_form="merged",
                    merged_differs=OFT_CONV, expect="ambiguous", extra={"definition": "merged_f32"}),
        ],
        compositions=[Composition(["boft_b8_m2_all", "boft_b3_m1_patches"], "disjoint modules")],
        strengths=[Strength("boft_b4_m2_patches")],
    )



def build_dinov2(num_labels=3):
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=16, patch_size=4,
        num_channels=3, num_labels=num_labels,
    )
    return randomise_base(Dinov2ForImageClassification(config), 7202)


def dinov2():
    return Case(
        name="dinov2",
        about="DINOv2: layer scale after every projection, a classifier over the class token and the mean of patches.",
        build=build_dinov2,
        inputs=images({"b1": 1, "b3": 3}, 3, 16, 32),
        outputs=["logits"],
        dynamic=IMAGE_AXES,
        exports=[Export(opset=17), Export("base_dynamo.onnx", kind="dynamo", opset=18)],
        adapters=[
            Adapter("boft_b8_m2_all", boft(8, 2, target_modules=ALL), 321),
            Adapter("boft_b8_m1_paper", boft(8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"],
                    bias="boft_only", modules_to_save=["classifier"]), 322, "bias and classifier trained"),
            Adapter("boft_b4_m1_head11", boft(4, target_modules=["q_proj"], modules_to_save=["classifier"]), 323, "11 labels",
                    build=functools.partial(build_dinov2, 11), extra={"num_labels": 11}),
            Adapter("boft_b6_m2_patches", boft(6, 2, target_modules=["projection"]), 324),
            Adapter("boft_b8_m2_layer0", boft(8, 2, target_modules=ALL, layers_to_transform=[0], layers_pattern="layer"), 325),
            Adapter("oft_r4_attn", oft(r=4, target_modules=ATTENTION), 326, angle=0.05),
        ],
    )
