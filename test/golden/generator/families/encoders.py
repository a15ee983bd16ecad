"""Bidirectional text encoders: BERT."""

import functools

import torch
from transformers import BertConfig, BertForSequenceClassification

from ..adapters import Adapter
from ..case import Case, Composition, Strength
from ..configs import boft, oft
from ..data import text, text_axes
from ..export import Export
from ..weights import randomise_base

QV = ["query", "value"]
ALL = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


def build_bert(num_labels=3, zero_biases=False, attention="sdpa", hidden=32, inner=64):
    config = BertConfig(
        vocab_size=60, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=4, intermediate_size=inner,
        max_position_embeddings=24, num_labels=num_labels, attn_implementation=attention,
    )
    return randomise_base(BertForSequenceClassification(config), 7001, zero_biases)


def bert_seqcls():
    return Case(
        name="bert_seqcls",
        about="BERT with a classifier: every feature of BOFT checkpoints, in five exports.",
        build=build_bert,
        inputs=text({"b1s5": [5], "b3s9": [9, 6, 3]}, 60, 11, token_types=True),
        outputs=["logits"],
        dynamic=text_axes(["input_ids", "attention_mask", "token_type_ids"]),
        exports=[
            Export(opset=17),
            Export("base_nofold.onnx", fold=False, opset=13, build=functools.partial(build_bert, attention="eager"),
                   note="attention written out"),
            Export("base_dynamo.onnx", kind="dynamo", opset=18),
            Export("base_dynamo23.onnx", kind="dynamo", opset=23),
        ],
        adapters=[
            Adapter("boft_b4_m1_qv", boft(4, target_modules=QV), 101),
            Adapter("boft_b8_m2_all", boft(8, 2, target_modules=ALL), 102),
            Adapter("boft_b4_m3_all", boft(4, 3, target_modules=ALL), 103, "m = 3 tells the permutation from its inverse"),
            Adapter("boft_b2_m4_qv", boft(2, 4, target_modules=QV), 104),
            Adapter("boft_b16_m1_key", boft(16, target_modules=["key"]), 105),
            Adapter("boft_n4_m2_ffn", boft(number=4, factors=2, target_modules=["intermediate.dense", "output.dense"]), 106,
                    "block_num: blocks of 8 where in=32, 16 where in=64"),
            Adapter("boft_b8_m1_layer1", boft(8, target_modules=ALL, layers_to_transform=[1], layers_pattern="layer"), 107),
            Adapter("boft_b8_m1_biasonly", boft(8, target_modules=QV, bias="boft_only"), 108,
                    "trained biases under <module>.base_layer.bias"),
            Adapter("boft_b4_m2_biasall", boft(4, 2, target_modules=QV, bias="all"), 109,
                    "every bias of the model: <module>.bias of untargeted modules, LayerNorm's too"),
            Adapter("boft_b8_m1_head", boft(8, target_modules=QV, modules_to_save=["classifier"]), 110,
                    "own classifier, same labels"),
            Adapter("boft_b8_m2_head5", boft(8, 2, target_modules=ALL, task_type="SEQ_CLS"), 111,
                    "own classifier with 5 labels; PEFT lists a `score` that does not exist",
                    build=functools.partial(build_bert, 5), extra={"num_labels": 5}),
            Adapter("boft_b4_m1_head2_biasall", boft(4, target_modules=QV, bias="all", modules_to_save=["classifier"]), 112,
                    "2 labels; odd extra keys classifier.modules_to_save.bias and classifier.original_module.bias",
                    build=functools.partial(build_bert, 2), extra={"num_labels": 2}),
            Adapter("boft_b8_m2_bf16", boft(8, 2, target_modules=ALL), 102, "boft_b8_m2_all stored in bfloat16",
                    dtype=torch.bfloat16),
            Adapter("boft_b8_m2_f16", boft(8, 2, target_modules=ALL), 102, "the same in float16", dtype=torch.float16),
            Adapter("boft_identity", boft(8, 2, target_modules=ALL, init_weights=True), 113, "no rotation, scale only",
                    angle=0.0),
            Adapter("boft_big_angles", boft(8, 2, target_modules=QV), 114, "a truncated series is far off", angle=3.0),
            Adapter("boft_b8_m2_second", boft(8, 2, target_modules=ALL), 116, "for compositions"),
            Adapter("boft_b8_m1_qv", boft(8, target_modules=QV), 117, "for compositions"),
            Adapter("oft_b8", oft(8, target_modules=ALL), 115, angle=0.05),
        ],
        compositions=[
            Composition(["boft_b8_m2_all", "boft_b8_m2_second"], "same modules, same sizes: the order matters"),
            Composition(["boft_b8_m2_second", "boft_b8_m2_all"], "the other order"),
            Composition(["boft_b4_m1_qv", "boft_b16_m1_key"], "disjoint modules"),
            Composition(["boft_b4_m1_qv", "boft_b8_m1_qv", "boft_b16_m1_key"], "three parts, block sizes 4, 8, 16"),
        ],
        strengths=[Strength("boft_b8_m2_all"), Strength("boft_b4_m3_all")],
    )

