"""From a fused torch model, quantised or not, to one tidy ONNX model in memory."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import ModelProto, helper
from onnx_ir.passes import common as passes
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules
from torch import nn

from . import qdq
from .quantizer import quant_convs

OPSETS = range(18, 22)
DEFAULT_OPSET = 20
IR_VERSION = 10
TRACED = (2, 24, 40)  # batch, height and width of the example; torch takes a batch of 1 for a constant
RULES = (
    rules.cast_cast_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.div_by_1_rule,
    rules.mul_by_1_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
)


def to_onnx(
    model: nn.Module,
    *,
    opset: int = DEFAULT_OPSET,
    half: bool = False,
    static: tuple[int, int] | None = None,
) -> ModelProto:
    """The ONNX model of a fused network: "input" (N, C, H, W) float32 -> "output" (N, C, s*H, s*W) float32.

    Convolutions of a quantised model (`export.quantize`) get a QuantizeLinear and DequantizeLinear before their input
    and int8 weights behind a DequantizeLinear, all symmetric, weights per output channel. The same model gives the
    same bytes; nodes and weights have the names of the model's modules.

    opset: 18 to 21. half: float16 inside, with casts at both ends, of a network that is not quantised (what is has
    presets.tensorrt for it). static: fixed (height, width); otherwise batch, height and width are dynamic.

    Raises ValueError for another opset, and for `half` of a quantised model.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}; allowed are {OPSETS.start} to {OPSETS.stop - 1}.")
    convs = dict(quant_convs(model))
    if half and convs:
        raise ValueError("The network is quantised; export it in float32, and put float16 around its int8 afterwards.")
    channels = cast(Any, model).config.in_chans
    made = _float_model(model, channels, opset, static)
    graph = made.graph
    if convs:
        qdq.insert(graph, convs)
    if half:
        _to_half(graph)
    passes.RemoveUnusedNodesPass()(made)
    _name(graph, {*model.state_dict(), qdq.ZERO})
    passes.ClearMetadataAndDocStringPass()(made)
    proto = ir.to_proto(made)
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    proto.producer_name, proto.producer_version, proto.graph.name = "aethernet", "", "main_graph"
    del proto.graph.value_info[:], proto.metadata_props[:]
    _declare(proto.graph.input[0], channels, static, ("height", "width"))
    scale = cast(Any, model).config.scale if static else 1
    size = (static[0] * scale, static[1] * scale) if static else None
    _declare(proto.graph.output[0], channels, size, ("output_height", "output_width"))
    return proto


def set_metadata(proto: ModelProto, facts: Mapping[str, str]) -> None:
    """Write metadata_props, in place of those that are there."""
    helper.set_model_props(proto, dict(facts))


def _float_model(model: nn.Module, channels: int, opset: int, static: tuple[int, int] | None) -> ir.Model:
    """The graph without any rounding, in float32: what torch exports, tidied with the passes of onnx_ir and onnxscript.

    A convolution's node has the name of its module, and weights are kept apart though they be equal.
    """
    model = copy.deepcopy(model).eval().float()
    for _, conv in quant_convs(model):
        conv.weight_quantizer.mode = conv.input_quantizer.mode = "off"
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (torch.zeros(1, channels, *static) if static else torch.zeros(TRACED[0], channels, *TRACED[1:]),),
            dynamo=True,
            opset_version=opset,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=None if static else ({0: dynamic, 2: dynamic, 3: dynamic},),
            optimize=False,  # it would merge equal weights, under the name of one
            verbose=False,
        )
    assert program is not None
    made = program.model
    passes.InlinePass()(made)
    for node in made.graph:
        if node.op_type == "Conv":
            node.name = str(cast(ir.Value, node.inputs[1]).name).removesuffix(".weight")
    for _ in range(2):
        optimizer.fold_constants(made)
        rewriter.rewrite(made, RULES)
    passes.IdentityEliminationPass()(made)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(made)
    passes.DeduplicateInitializersPass(size_limit=1)(made)
    passes.CommonSubexpressionEliminationPass()(made)
    passes.RemoveUnusedNodesPass()(made)
    _limits_to_activations(made.graph)
    _split_convolutions(made.graph)
    passes.RemoveUnusedNodesPass()(made)
    return made


def _limits_to_activations(graph: ir.Graph) -> None:
    """max(x, 0) -> Relu and max(x, constant) -> Clip, which runtimes fuse into convolutions."""
    for node in graph:
        if node.op_type == "Max" and len(node.inputs) == 2 and (limit := _constant(node.inputs[1])) is not None:
            if limit.ndim == 0 and limit == 0:
                node.op_type = "Relu"
                node.resize_inputs(1)
            elif limit.ndim == 0:
                node.op_type = "Clip"


def _split_convolutions(graph: ir.Graph) -> None:
    """A convolution whose output is only split into channel ranges becomes one convolution a range, named after it.

    The fused gate and main projections are such: cutting channels apart costs OpenVINO's CPU plugin as much as
    the convolution itself, and TensorRT merges convolutions of the same input by itself.
    """
    for split in [node for node in graph if node.op_type == "Split"]:
        source = cast(ir.Value, split.inputs[0])
        conv = source.producer()
        axis = split.attributes.get_int("axis", 0)
        if conv is None or conv.op_type != "Conv" or axis != 1 or len(source.uses()) != 1:
            continue
        start = 0
        for part in split.outputs:
            width = cast(ir.Shape, part.shape)[1]
            assert isinstance(width, int)
            parameters = []
            for value in conv.inputs[1:]:
                tensor = cast(np.ndarray, _constant(value))[start : start + width]
                parameters.append(qdq.initializer(graph, f"{cast(ir.Value, value).name}.{start}", tensor))
            new = ir.node("Conv", [conv.inputs[0], *parameters], conv.attributes, name=f"{conv.name}.{start}")
            graph.insert_before(split, new)
            ir.convenience.replace_all_uses_with(part, new.outputs[0])
            start += width
        graph.remove(split, safe=True)
        graph.remove(conv, safe=True)


def _to_half(graph: ir.Graph) -> None:
    """float16 for every float32 tensor, with a cast behind the input and one before the output."""
    for value in list(graph.initializers.values()):
        tensor = _constant(value)
        if tensor is not None and tensor.dtype == np.float32:
            value.const_value = ir.tensor(tensor.astype(np.float16), name=value.name)
            value.dtype = ir.DataType.FLOAT16
    image = graph.inputs[0]
    first = next(iter(graph))
    new = ir.node("Cast", [image], {"to": ir.DataType.FLOAT16.value})
    ir.convenience.replace_all_uses_with(image, new.outputs[0])
    new.replace_input_with(0, image)
    graph.insert_before(first, new)
    result = graph.outputs[0]
    back = ir.node("Cast", [result], {"to": ir.DataType.FLOAT.value})
    graph.append(back)
    back.outputs[0].type, back.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), result.shape
    graph.outputs[0] = back.outputs[0]


def _name(graph: ir.Graph, known: set[str]) -> None:
    """Names that do not hang on torch's version: nodes by operator and number, values by node, constants by number."""
    counts: Counter[str] = Counter()
    renamed: set[str] = set()
    for node in graph:
        if node.op_type not in ("Conv", *qdq.OPERATORS):
            node.name = f"{node.op_type}_{counts[node.op_type]}"
            counts[node.op_type] += 1
        for value in node.inputs:
            name = str(value.name) if value is not None else ""
            if value is None or not value.is_initializer() or name in renamed or _belongs(name, known):
                continue
            value.name = f"constant_{counts['constant']}"
            counts["constant"] += 1
            renamed.add(value.name)
    for node in graph:
        for index, value in enumerate(node.outputs):
            if value is graph.outputs[0]:
                value.name = "output"
            else:
                value.name = f"{node.name}.out" + (f".{index}" if index else "")


def _belongs(name: str, known: set[str]) -> bool:
    """Whether a tensor is one of the model's, a range of one, or a step of its rounding."""
    stem, _, start = name.rpartition(".")
    return (
        name in known or name.endswith(qdq.PARTS) or (start.isdigit() and (stem in known or stem.endswith(qdq.PARTS)))
    )


def _constant(value: ir.Value | None) -> np.ndarray | None:
    return value.const_value.numpy() if value is not None and value.const_value is not None else None


def _declare(value: onnx.ValueInfoProto, channels: int, size: tuple[int, int] | None, names: tuple[str, str]) -> None:
    """Write the shape of one end: fixed, or of named dimensions."""
    shape = (1, channels, *size) if size else ("batch", channels, *names)
    value.CopyFrom(helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, shape))
