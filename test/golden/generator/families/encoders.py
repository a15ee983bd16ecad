"""Bidirectional text encoders: BERT, RoBERTa, DeBERTa-v3, ALBERT."""

import functools

import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    RobertaConfig,
    RobertaForTokenClassification,
)

from .. import optimum_tool
from ..adapters import Adapter
from ..case import Case
from ..combined import Composition, Strength
from ..configs import boft, oft
from ..data import text, text_axes
from ..export import Export
from ..weights import randomise_base

QV = ["query", "value"]
PERMUTATION = (
    "PEFT keeps one permutation a module, that of the adapter loaded last: with parts of different m it fails, of "
    "different block sizes (m > 1) it is wrong; the expected values are the numpy product"
)
ALL = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


def build_bert(num_labels=3, zero_biases=False, attention="sdpa", hidden=32, inner=64, layers=2):
    config = BertConfig(
        vocab_size=60, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=inner,
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
            Export("base_optimum.onnx", kind="Optimum", make=optimum_tool.export(build_bert, "text-classification", 14)),
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
            Composition(["boft_b8_m1_head", "boft_b8_m1_qv"], "one part brings the classifier"),
            Composition(["boft_b8_m1_qv", "boft_b8_m1_biasonly"], "one part brings biases"),
            Composition(["boft_b8_m2_all", "boft_b4_m3_all"], PERMUTATION, by_reference=True),
            Composition(["boft_b4_m3_all", "boft_b8_m2_all", "boft_b4_m1_qv"], PERMUTATION, by_reference=True),
            Composition(["boft_b8_m2_all", "oft_b8"], "PEFT refuses to combine BOFT and OFT", expect="judge"),
            Composition(["boft_b8_m1_head", "boft_b8_m2_head5"], "two classifiers", expect="judge"),
        ],
        strengths=[
            Strength("boft_b8_m2_all"),
            Strength("boft_b4_m3_all"),
            Strength("boft_b8_m1_biasonly", note="trained biases interpolated too, so that 0 is the base", expect="judge"),
        ],
    )



def bert_dedup():
    names = ["input_ids", "attention_mask", "token_type_ids"]
    zero = functools.partial(build_bert, zero_biases=True)
    return Case(
        name="bert_dedup",
        about="All biases of the base are zero: exporters keep one copy, and a bias is an Identity's output.",
        build=zero,
        inputs=text({"b2s6": [6, 4]}, 60, 12, token_types=True),
        outputs=["logits"],
        dynamic=text_axes(names),
        exports=[Export(opset=17), Export("base_dynamo.onnx", kind="dynamo", opset=18)],
        adapters=[
            Adapter("boft_b8_m2_biasonly", boft(8, 2, target_modules=ALL, bias="boft_only"), 121,
                    "each trained bias belongs to its own layer"),
            Adapter("boft_b4_m1_biasall_head", boft(4, target_modules=QV, bias="all", modules_to_save=["classifier"]), 122),
            Adapter("boft_b4_m1_qv", boft(4, target_modules=QV), 123),
            Adapter("oft_b8_biasonly", oft(8, target_modules=ALL, bias="oft_only"), 124, angle=0.1),
        ],
    )


def build_roberta(num_labels=5, attention="sdpa"):
    config = RobertaConfig(
        vocab_size=52, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=24, num_labels=num_labels, type_vocab_size=1, pad_token_id=1,
        attn_implementation=attention,
    )
    return randomise_base(RobertaForTokenClassification(config), 7002)


def roberta_tokens():
    inputs = text({"b1s4": [4], "b3s7": [7, 5, 2]}, 52, 13)
    for arrays in inputs.values():
        arrays["input_ids"][arrays["attention_mask"] == 0] = 1
    return Case(
        name="roberta_tokens",
        about="RoBERTa that labels tokens: the classifier is a MatMul over (batch, sequence, hidden).",
        build=build_roberta,
        inputs=inputs,
        outputs=["logits"],
        dynamic=text_axes(["input_ids", "attention_mask"]),
        exports=[
            Export(opset=13, build=functools.partial(build_roberta, attention="eager"), note="attention written out"),
            Export("base_optimum.onnx", kind="Optimum", make=optimum_tool.export(build_roberta, "token-classification", 18)),
            Export("base_dynamo.onnx", kind="dynamo", opset=21),
        ],
        adapters=[
            Adapter("boft_b8_m2_all", boft(8, 2, target_modules=ALL), 131),
            Adapter("boft_b4_m4_qv", boft(4, 4, target_modules=QV), 132, "one effective block of 32"),
            Adapter("boft_b8_m1_head", boft(8, target_modules=ALL[:4], modules_to_save=["classifier"]), 133),
            Adapter("boft_b8_m1_head9", boft(8, target_modules=QV, modules_to_save=["classifier"]), 134, "9 labels per token",
                    build=functools.partial(build_roberta, 9), extra={"num_labels": 9}),
            Adapter("boft_b16_m2_classifier", boft(16, 2, target_modules=["classifier", "query"]), 135,
                    "the classifier itself is rotated"),
            Adapter("oft_b8_all", oft(8, target_modules=ALL), 136, angle=0.05),
            Adapter("oft_b8_words", oft(8, target_modules=["word_embeddings", "value"]), 137, angle=0.1),
        ],
        compositions=[Composition(["boft_b8_m2_all", "boft_b16_m2_classifier"], PERMUTATION, by_reference=True)],
        strengths=[Strength("boft_b4_m4_qv")],
    )


def build_deberta(num_labels=3):
    config = DebertaV2Config(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=32, relative_attention=True, position_buckets=8, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
        num_labels=num_labels,
    )
    return randomise_base(DebertaV2ForSequenceClassification(config), 7003)


def deberta_v3():
    twice = "query_proj and key_proj also act on the relative-position table, whose batch dimension is 1"
    return Case(
        name="deberta_v3",
        about="DeBERTa-v3: query and key projections are used twice, on tokens and on the position table.",
        build=build_deberta,
        inputs=text({"b1s6": [6], "b3s9": [9, 7, 4]}, 50, 14),
        outputs=["logits"],
        dynamic=text_axes(["input_ids", "attention_mask"]),
        exports=[Export(opset=17), Export("base_nofold.onnx", fold=False, opset=17)],
        adapters=[
            Adapter("boft_b8_m2_qkv", boft(8, 2, target_modules=["query_proj", "key_proj", "value_proj"]), 141, twice),
            Adapter("boft_b4_m3_qk", boft(4, 3, target_modules=["query_proj", "key_proj"]), 142, twice),
            Adapter("boft_b8_m1_value_ffn", boft(8, target_modules=["value_proj", "intermediate.dense"]), 143,
                    "modules used once"),
            Adapter("boft_b8_m1_qv_biasonly", boft(8, target_modules=["query_proj", "value_proj"], bias="boft_only"), 144,
                    twice),
            Adapter("boft_b8_m2_pooler_head", boft(8, 2, target_modules=["pooler.dense"], modules_to_save=["classifier"]),
                    145, "the pooler"),
            Adapter("oft_b8_qkv", oft(8, target_modules=["query_proj", "key_proj", "value_proj"]), 146, twice, angle=0.1),
        ],
        strengths=[Strength("boft_b8_m2_qkv", (0.5,))],
    )


def build_albert(num_labels=3):
    config = AlbertConfig(
        vocab_size=50, embedding_size=16, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=24, num_labels=num_labels,
    )
    return randomise_base(AlbertForSequenceClassification(config), 7004)


def albert_shared():
    return Case(
        name="albert_shared",
        about="ALBERT: one layer used three times (query, query_1, query_2 in the graph).",
        build=build_albert,
        inputs=text({"b2s6": [6, 4]}, 50, 15, token_types=True),
        outputs=["logits"],
        dynamic=text_axes(["input_ids", "attention_mask", "token_type_ids"]),
        exports=[
            Export(opset=17),
            Export("base_nofold.onnx", fold=False, opset=15),
            Export("base_dynamo.onnx", kind="dynamo", opset=18),
        ],
        adapters=[
            Adapter("boft_b8_m2_qkv_ffn", boft(8, 2, target_modules=["query", "key", "value", "ffn"]), 151),
            Adapter("boft_b4_m3_dense_biasonly", boft(4, 3, target_modules=["dense", "query"], bias="boft_only"), 152),
            Adapter("boft_b16_m1_mapping_head", boft(16, target_modules=["embedding_hidden_mapping_in", "ffn_output"],
                    modules_to_save=["classifier"]), 153),
            Adapter("oft_b8_qv", oft(8, target_modules=QV), 154, angle=0.1),
        ],
    )
