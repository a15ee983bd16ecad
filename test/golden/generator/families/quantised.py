"""Bases that are no float32 graphs: float16, int8, 4 and 8 bits; and graphs that ONNX Runtime optimised."""

import functools
import pathlib
import tempfile

import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.transformers import float16, optimizer

from .. import export as onnx_side
from ..adapters import Adapter
from ..case import Case
from ..configs import boft, oft
from ..data import text, text_axes
from ..export import Export
from .causal import ATTENTION, build_llama
from .encoders import ALL, QV, build_bert

BERT = ["input_ids", "attention_mask", "token_type_ids"]
LLAMA = ["input_ids", "attention_mask", "position_ids"]


def rounded(build):
    """The base with weights that float16 holds exactly: the rest of the distance is arithmetic."""
    return lambda: build().half().float()


def bert_case(name, about, **kwargs):
    return Case(
        name=name, about=about, build=kwargs.pop("build", build_bert), outputs=["logits"], dynamic=text_axes(BERT),
        inputs=text({"b1s5": [5], "b3s8": [8, 6, 3]}, 60, 91, token_types=True), **kwargs,
    )


def float_base(case, path, opset=17, attention="sdpa", fold=True, build=build_bert):
    """The float32 export that a quantiser or optimiser starts from."""
    spec = Export(opset=opset, fold=fold)
    model = build(attention=attention)
    example = case.inputs[list(case.inputs)[-1]]
    onnx_side.export(spec, model, path, example, case.outputs, case.dynamic)


def derived(case_of, transform, **kwargs):
    """A `make` for Export: float base in a temporary folder, transformed into the case's file."""

    def make(root, path):
        with tempfile.TemporaryDirectory() as place:
            source = pathlib.Path(place) / "float.onnx"
            float_base(case_of(), source, **kwargs)
            transform(source, path)

    return make


def adapters(seed):
    """A small mixture of kinds, for every base of this file."""
    return [
        Adapter("boft_b8_m2_all", boft(8, 2, target_modules=ALL), seed),
        Adapter("boft_b4_m3_qv", boft(4, 3, target_modules=QV), seed + 1),
        Adapter("boft_b8_m1_key_ffn", boft(8, target_modules=["key", "intermediate.dense"]), seed + 2),
        Adapter("oft_b8_all", oft(8, target_modules=ALL), seed + 3, angle=0.05),
    ]


# float16


def bert_float16():
    return bert_case(
        "bert_float16",
        "BERT exported in float16; the expected values are float64 over weights that float16 holds exactly.",
        build=rounded(build_bert),
        exports=[Export(opset=17, half=True, atol=4e-3, build=lambda: rounded(functools.partial(build_bert, attention="eager"))()),
                 Export("base_dynamo.onnx", kind="dynamo", opset=18, half=True, atol=4e-3)],
        adapters=[
            *adapters(601),
            Adapter("boft_b8_m1_biasonly", boft(8, target_modules=QV, bias="boft_only"), 605),
            Adapter("boft_b8_m1_head5", boft(8, target_modules=QV, modules_to_save=["classifier"]), 606, "5 labels",
                    build=functools.partial(build_bert, 5), extra={"num_labels": 5}),
        ],
        atol=4e-3, rtol=4e-3,
        tolerance_note="a float16 graph against float64: atol and rtol 4e-3",
    )


def to_float16(source, path):
    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), path)


def llama_float16():
    return Case(
        name="llama_float16",
        about="Llama converted by onnxruntime.transformers.float16 with float32 inputs and outputs.",
        build=rounded(build_llama),
        inputs=text({"b2s6": [6, 4]}, 48, 92, positions=True),
        outputs=["logits"],
        dynamic=text_axes(LLAMA),
        exports=[Export(kind="onnxruntime.transformers.float16", opset=17, make=derived(llama_float16, to_float16,
                 build=lambda attention: build_llama(attention=attention).half().float()), atol=3e-2)],
        adapters=[
            Adapter("boft_b8_m2_attn", boft(8, 2, target_modules=ATTENTION), 611),
            Adapter("boft_b8_m1_lmhead", boft(8, target_modules=["lm_head", "q_proj"]), 612),
            Adapter("oft_b8_attn", oft(8, target_modules=ATTENTION), 613, angle=0.05),
        ],
        atol=2e-2, rtol=4e-3,
        tolerance_note="a float16 graph against float64, logits of size 10: atol 2e-2, rtol 4e-3",
    )


# int8


def to_int8(source, path):
    # reduce_range: 7-bit weights do not saturate in 16-bit sums, so every processor computes the same.
    quantize_dynamic(source, path, weight_type=QuantType.QInt8, reduce_range=True)


def bert_int8_dynamic():
    return bert_case(
        "bert_int8_dynamic",
        "quantize_dynamic: q, k and v share one DynamicQuantizeLinear, each adapted node needs its own.",
        exports=[Export(kind="onnxruntime.quantization.quantize_dynamic", opset=17, make=derived(bert_int8_dynamic, to_int8),
                        atol=0.3)],
        adapters=[
            *adapters(621),
            Adapter("boft_b8_m1_biasonly", boft(8, target_modules=QV, bias="boft_only"), 625),
        ],
        rewrite=True, atol=5e-2, rtol=1e-2,
        tolerance_note="rows run alone; in a batch whose activation scale spans all rows an answer moves by up to 5e-2",
    )


class Calibration(CalibrationDataReader):
    def __init__(self, inputs):
        self.sets = iter(inputs.values())

    def get_next(self):
        return next(self.sets, None)


def bert_int8_static():
    def to_qdq(source, path):
        quantize_static(
            source, path, Calibration(case_inputs), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"], reduce_range=True,
        )

    case_inputs = text({"b1s5": [5], "b3s8": [8, 6, 3]}, 60, 91, token_types=True)
    return bert_case(
        "bert_int8_static",
        "quantize_static, QDQ: activation scales are constants calibrated without adapters.",
        exports=[Export(kind="onnxruntime.quantization.quantize_static", opset=17, make=derived(bert_int8_static, to_qdq),
                        atol=0.3)],
        adapters=[optional(a, "R stands in front of a copy of the QuantizeLinear, its constant scale unchanged: rotated "
                              "values may leave the calibrated range") for a in adapters(631)],
        rewrite=True, atol=5e-2, rtol=1e-2,
        tolerance_note="a value on the edge of two int8 steps may fall either way",
    )


def optional(adapter, note):
    return Adapter(adapter.name, adapter.config, adapter.seed, note, expect="optional", angle=adapter.angle)


# 4 and 8 bits


def to_bits(bits, quant_format):
    def transform(source, path):
        config = DefaultWeightOnlyQuantConfig(
            block_size=16, is_symmetric=bits == 8, bits=bits, quant_format=quant_format,
            op_types_to_quantize=("MatMul",),
        )
        quantiser = MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
        quantiser.process()
        onnx.save(quantiser.model.model, path)

    return transform


def nbits(name, bits, seed, quant_format=QuantFormat.QOperator):
    form = "operator form" if quant_format == QuantFormat.QOperator else "QDQ form"
    make = derived(lambda: nbits(name, bits, seed), to_bits(bits, quant_format))
    return bert_case(
        name,
        f"Weights in {bits} bits, {form}: the rotation in front of the adapted node is exact.",
        exports=[Export(kind="onnxruntime MatMulNBitsQuantizer", note=f"{bits} bits, blocks of 16, {form}", make=make,
                        atol=0.5)],
        adapters=adapters(seed), rewrite=True, atol=1e-4 if quant_format == QuantFormat.QOperator else 4e-2,
        tolerance_note="rotation in float32 in front of each adapted node of base.onnx" + (
            "" if quant_format == QuantFormat.QOperator else
            "; 1e-4 with the session option session.qdq_matmulnbits_accuracy_level = 1: by default onnxruntime multiplies "
            "a fused QDQ pair with activations in 8 bits"
        ),
    )


def bert_int4():
    return nbits("bert_int4", 4, 641)


def bert_int4_qdq():
    return nbits("bert_int4_qdq", 4, 645, QuantFormat.QDQ)  # onnxruntime 1.32 writes QDQ weights of 4 bits only


def bert_int8_weights():
    return nbits("bert_int8_weights", 8, 651)


# Graphs that were optimised before they came here


def optimised_adapters(seed, note):
    return [
        Adapter(a.name, a.config, a.seed, note, expect="optional", angle=a.angle)
        for a in [*adapters(seed), Adapter("boft_b8_m1_biasonly", boft(8, target_modules=ALL, bias="boft_only"), seed + 4)]
    ]


def by_runtime(source, path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def bert_ort_extended():
    note = "served where every site can be recovered, otherwise refused with a reason"
    return bert_case(
        "bert_ort_extended",
        "A graph that ONNX Runtime optimised (extended): FusedGemm with Tanh inside, biases in BiasGelu and "
        "SkipLayerNormalization, q, k and v apart.",
        exports=[Export(kind="onnxruntime, ORT_ENABLE_EXTENDED", opset=17, make=derived(bert_ort_extended, by_runtime))],
        adapters=[
            *optimised_adapters(661, note),
            Adapter("boft_b8_m2_pooler", boft(8, 2, target_modules=["pooler.dense"]), 667, note, expect="optional"),
        ],
    )


def by_transformers_tool(source, path):
    fused = optimizer.optimize_model(str(source), model_type="bert", num_heads=4, hidden_size=32, opt_level=0)
    if not any(node.op_type == "Attention" for node in fused.model.graph.node):
        raise AssertionError("the attention was not fused")
    fused.save_model_to_file(str(path))


def bert_packed_attention():
    note = "q, k and v are columns of one packed weight: served or refused with a reason"
    return bert_case(
        "bert_packed_attention",
        "A graph of onnxruntime.transformers.optimizer: one Attention node with packed q, k, v; biases in BiasGelu and "
        "SkipLayerNormalization.",
        exports=[Export(kind="onnxruntime.transformers.optimizer", opset=17, make=derived(
            bert_packed_attention, by_transformers_tool, attention="eager", fold=False))],
        adapters=optimised_adapters(671, note),
    )
