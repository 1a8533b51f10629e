"""Rounding written into a float graph: QuantizeLinear and DequantizeLinear around each quantised convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import onnx_ir as ir
import torch

from .quantizer import CODES, QuantConv2d

OPERATORS = ("QuantizeLinear", "DequantizeLinear")
ZERO = "zero_point"
PARTS = (".input_scale", ".weight_int8", ".weight_scale", ".weight_zero_point", ".no_bias")
NO_BIAS = 1e-20  # nothing in float32, but not zero
# Where a convolution's output is rounded, ONNX Runtime adds the bias in int32, counted in steps of input times weight.
# That overflows where a channel's weights, and so their step, are nothing beside its bias (33 dB from torch): a step is
# at least so large that the bias takes half of int32.
LARGEST_BIAS = 1 << 30
ONE_TENSOR = ("Relu", "Clip", "LeakyRelu", "DepthToSpace", "Pad", "Reshape", "Slice", "Transpose")


def insert(graph: ir.Graph, convs: Mapping[str, QuantConv2d]) -> None:
    """Round the inputs and weights of the convolutions named in `convs`, in place.

    A node's name is that of its convolution, with the first channel behind it where it is a part of one
    (ffn.fc1.32).
    """
    nodes = [(node, *_module(str(node.name), convs)) for node in graph if node.op_type == "Conv"]
    zero = initializer(graph, ZERO, np.array(0, np.int8))
    rounded: dict[tuple[ir.Value, float], ir.Value] = {}
    for node, name, conv, _ in nodes:
        if conv is None:
            continue
        source = cast(ir.Value, node.inputs[0])
        step = _numpy(conv.input_quantizer.scale)
        key = (source, float(step))
        if key not in rounded:
            scale = initializer(graph, f"{name}.input_scale", step.reshape(()))
            quantize = ir.node("QuantizeLinear", [source, scale, zero], name=f"{name}.input_quantize")
            dequantize = ir.node(
                "DequantizeLinear", [quantize.outputs[0], scale, zero], name=f"{name}.input_dequantize"
            )
            graph.insert_before(node, [quantize, dequantize])
            rounded[key] = dequantize.outputs[0]
        node.replace_input_with(0, rounded[key])
    for node, _, conv, start in nodes:
        if conv is not None:
            _round_weight(graph, node, conv, start)


def initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A constant of the graph."""
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def _module(name: str, convs: Mapping[str, QuantConv2d]) -> tuple[str, QuantConv2d | None, int | None]:
    """The convolution that a node computes, or a part of which, from its first channel on."""
    stem, _, start = name.rpartition(".")
    if name not in convs and start.isdigit() and stem in convs:
        return stem, convs[stem], int(start)
    return name, convs.get(name), None


def _numpy(step: torch.Tensor) -> np.ndarray:
    return step.detach().float().cpu().numpy()


@torch.no_grad()
def _round_weight(graph: ir.Graph, node: ir.Node, conv: QuantConv2d, start: int | None) -> None:
    """Replace the float weight of a convolution by int8 codes and a DequantizeLinear."""
    name, label = str(node.name), "" if start is None else f".{start}"
    stem = name.removesuffix(label)
    step = conv.weight_quantizer.scale.flatten()
    if conv.bias is not None and _is_rounded(node.outputs[0]):
        # The error of so coarse a step is nothing beside the bias that asks for it.
        step = torch.maximum(step, conv.bias.abs() / (conv.input_quantizer.scale * LARGEST_BIAS))
    scale = _numpy(step)
    codes = torch.round(conv.weight / torch.from_numpy(scale).to(conv.weight).view(-1, 1, 1, 1)).clamp(-CODES, CODES)
    first = start or 0
    window = slice(first, first + cast(ir.Shape, cast(ir.Value, node.inputs[1]).shape).numpy()[0])
    parts = {
        f"{stem}.weight_int8{label}": codes.to(torch.int8).cpu().numpy()[window],
        f"{stem}.weight_scale{label}": scale[window],
        f"{stem}.weight_zero_point{label}": np.zeros(len(scale[window]), np.int8),
    }
    values = [initializer(graph, key, array) for key, array in parts.items()]
    dequantize = ir.node("DequantizeLinear", values, {"axis": 0}, name=f"{name}.weight_dequantize")
    graph.insert_before(node, dequantize)
    node.replace_input_with(1, dequantize.outputs[0])
    if conv.bias is None or not conv.bias[window].any():
        # OpenVINO (2026.4) loses the other summand of a residual sum behind an int8 convolution without bias.
        node.resize_inputs(3)
        bias = np.full(len(scale[window]), NO_BIAS, np.float32)
        node.replace_input_with(2, initializer(graph, f"{stem}.no_bias{label}", bias))


def _is_rounded(value: ir.Value) -> bool:
    """Whether a tensor is rounded to int8 before it is added to or multiplied by another."""
    for node, index in value.uses():
        if index == 0 and node.op_type == "QuantizeLinear":
            return True
        if index == 0 and node.op_type in ONE_TENSOR and _is_rounded(node.outputs[0]):
            return True
    return False
