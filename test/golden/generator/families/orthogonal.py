"""OFT in all four generations, and BOFT files of older PEFT."""

import functools

import torch

from ..adapters import Adapter
from ..case import Case
from ..combined import Composition, Strength
from ..configs import boft, oft
from ..data import text, text_axes
from ..export import Export
from .encoders import ALL, QV, build_bert

NAMES = ["input_ids", "attention_mask", "token_type_ids"]
SETS = {"b1s4": [4], "b2s7": [7, 5]}
build = functools.partial(build_bert, hidden=48, inner=72, layers=1)
FFN = ["intermediate.dense", "output.dense"]


def case(**kwargs):
    return Case(
        build=build,
        inputs=text(SETS, 60, 41, token_types=True),
        outputs=["logits"],
        dynamic=text_axes(NAMES),
        **kwargs,
    )


def terms(count):
    return Adapter(f"oft_b8_terms{count}", oft(8, target_modules=QV, num_cayley_neumann_terms=count), 400 + count,
                   f"Cayley-Neumann with {count} terms", angle=0.1)


def bert_oft():
    return case(
        name="bert_oft",
        about="OFT since PEFT 0.18, widths 48 and 72: blocks that are no powers of two, odd ones, embeddings.",
        exports=[Export(opset=17), Export("base_dynamo.onnx", kind="dynamo", opset=21)],
        adapters=[
            *[terms(count) for count in range(1, 7)],
            Adapter("oft_b8_cayley", oft(8, target_modules=ALL, use_cayley_neumann=False), 411,
                    "exact Cayley: rotates the other way round", angle=0.3),
            Adapter("oft_b3_all", oft(3, target_modules=ALL), 412, "odd blocks", angle=0.1),
            Adapter("oft_b9_ffn", oft(9, target_modules=["output.dense"]), 413,
                    "9 divides 72 only: PEFT takes 8 where in=48, the configuration keeps 9", angle=0.1),
            Adapter("oft_r4", oft(r=4, target_modules=ALL), 414, "r: blocks of 12 and 18, oft_block_size is 0", angle=0.05),
            Adapter("oft_r5_adjusted", oft(r=5, target_modules=QV), 415, "5 does not divide 48: PEFT takes 4", angle=0.05),
            Adapter("oft_b24_share", oft(24, target_modules=ALL, block_share=True), 416, "one block repeated", angle=0.05),
            Adapter("oft_b8_share_cayley", oft(8, target_modules=QV, block_share=True, use_cayley_neumann=False), 417),
            Adapter("oft_b8_coft", oft(8, target_modules=QV, coft=True, eps=0.2), 418,
                    "stored blocks lie outside the ball: projected at inference", angle=0.1, numpy_atol=1e-6),
            Adapter("oft_b12_share_coft", oft(12, target_modules=QV, coft=True, eps=0.2, block_share=True), 419, angle=0.1,
                    numpy_atol=1e-6),
            Adapter("oft_b48_whole", oft(48, target_modules=["query"]), 420, "one block as wide as the layer", angle=0.02),
            Adapter("oft_b8_biasonly", oft(8, target_modules=QV, bias="oft_only"), 421, angle=0.1),
            Adapter("oft_b8_head", oft(8, target_modules=QV, modules_to_save=["classifier"]), 422, angle=0.1),
            Adapter("oft_b8_bf16", oft(8, target_modules=QV), 423, "stored in bfloat16", angle=0.1, dtype=torch.bfloat16),
            Adapter("oft_b8_words", oft(8, target_modules=["word_embeddings"]), 424,
                    "looked-up rows are rotated: oft_embedding_R", angle=0.1),
            Adapter("oft_b6_embeddings", oft(6, target_modules=["word_embeddings", "position_embeddings",
                    "token_type_embeddings", "query"]), 425,
                    "the position table's rows have no batch dimension of their own", angle=0.1),
            Adapter("oft_b8_second", oft(8, target_modules=ALL, use_cayley_neumann=False), 426, "for compositions"),
            Adapter("boft_b8_m2_all", boft(8, 2, target_modules=["query", "key", "value"]), 427,
                    "shares a batch with the OFT adapters"),
        ],
        compositions=[
            Composition(["oft_b8_cayley", "oft_b8_second"],
                        "OFT: x meets the first part first (BOFT: the last). PEFT's merge multiplies the other way round"),
            Composition(["oft_b8_second", "oft_b8_cayley"], "the other order"),
            Composition(["oft_b8_terms5", "oft_b24_share", "oft_b8_words"], "three parts, blocks of 8 and 24"),
        ],
        strengths=[Strength("oft_b8_cayley"), Strength("oft_b8_terms5", note="the series of the scaled skew matrix")],
    )


def bert_oft_legacy():
    def old(name, version, config, seed, note="", **kwargs):
        return Adapter(name, config, seed, note, peft_version=version, numpy_atol=1e-7, **kwargs)

    def config(**kwargs):
        from peft import OFTConfig

        return functools.partial(OFTConfig, **kwargs)

    series = "every power has coefficient 2; no peft_version in the configuration"
    return case(
        name="bert_oft_legacy",
        about="OFT of PEFT up to 0.17: three generations that newer PEFT refuses or reads differently.",
        exports=[Export(opset=17)],
        adapters=[
            old("oft_v011_r4", "0.11.1", config(r=4, target_modules=ALL), 431, "rotates the output, before the bias"),
            old("oft_v013_r4", "0.13.2", config(r=4, target_modules=ALL), 432, "rotates the output"),
            old("oft_v013_r5_cropped", "0.13.2", config(r=5, target_modules=QV), 433,
                "5 blocks of 10 for 48 outputs: the product is cropped and no longer orthogonal",),
            old("oft_v013_share", "0.13.2", config(r=6, target_modules=QV, block_share=True), 434),
            old("oft_v013_coft", "0.13.2", config(r=4, target_modules=QV, coft=True, eps=1e-3), 435,
                "the raw matrix is projected, eps * ceil(out/r)^2"),
            old("oft_v014_b8", "0.14.0", config(r=0, oft_block_size=8, target_modules=ALL), 436, "input side, with a scale"),
            old("oft_v015_r3", "0.15.2", config(r=3, oft_block_size=0, target_modules=QV), 437, "three blocks of 16"),
            old("oft_v015_share", "0.15.2", config(r=0, oft_block_size=12, target_modules=QV, block_share=True), 438),
            old("oft_v015_coft", "0.15.2", config(r=0, oft_block_size=8, target_modules=QV, coft=True, eps=1e-3), 439),
            old("oft_v016_terms5", "0.16.0", config(oft_block_size=8, target_modules=QV, use_cayley_neumann=True), 440,
                series, angle=0.1),
            old("oft_v017_terms5", "0.17.1", config(oft_block_size=8, target_modules=ALL, use_cayley_neumann=True), 441,
                series, angle=0.1),
            old("oft_v017_terms3", "0.17.1", config(oft_block_size=8, target_modules=QV, use_cayley_neumann=True,
                num_cayley_neumann_terms=3), 442, "I + 2Q + 2Q^2: 0.18 and later add Q^3", angle=0.1),
            old("oft_v017_cayley", "0.17.1", config(oft_block_size=6, target_modules=QV, use_cayley_neumann=False), 443),
            old("oft_v017_coft", "0.17.1", config(oft_block_size=8, target_modules=QV, use_cayley_neumann=False, coft=True,
                eps=0.2), 444),
        ],
    )


def bert_boft_legacy():
    def old(name, version, config, seed, note="", **kwargs):
        return Adapter(name, config, seed, note, peft_version=version, numpy_atol=1e-7, **kwargs)

    return case(
        name="bert_boft_legacy",
        about="BOFT files of older PEFT: boft_P in the file, no peft_version, biases dropped on saving.",
        exports=[Export(opset=17)],
        adapters=[
            old("boft_v011_m2", "0.11.1", boft(8, 2, target_modules=QV, layers_to_transform=[0], layers_pattern="layer"), 451, "boft_P is in the file"),
            old("boft_v011_m3", "0.11.1", boft(4, 3, target_modules=["query"]), 452, "boft_P is in the file"),
            old("boft_v013_m2", "0.13.2", boft(4, 2, target_modules=QV), 453),
            old("boft_v015_m2", "0.15.2", boft(6, 2, target_modules=QV), 454),
            old("boft_v019_biasonly", "0.19.1", boft(8, 2, target_modules=QV, bias="boft_only"), 455,
                "the trained biases were not saved"),
            old("boft_v019_biasall", "0.19.1", boft(8, 2, target_modules=QV, bias="all"), 456),
        ],
    )
