"""What TensorRT does not take, or takes and computes wrongly or slowly, found in the graph before a build."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def violations(model: bytes) -> list[str]:
    """One line a broken rule, with the node's name; empty for a graph that keeps all of them.

    Rules (NVIDIA's documentation of explicit quantisation): int8 is symmetric, so zero points are int8 and 0 (uint8
    ones are read as int8, without an error); an activation has one scale; PReLU does not fuse with Q/DQ; between a
    convolution and its quantised input nothing but DequantizeLinear.
    """
    graph = onnx.load_model_from_string(model).graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    quantised = any(node.op_type in QUANTISERS for node in graph.node)
    found = []
    for node in graph.node:
        if node.op_type in QUANTISERS:
            found += [f"node {node.name or node.output[0]}: {text}" for text in _quantiser(node, tensors)]
        if quantised and node.op_type == "PRelu":
            found.append(f"node {node.name or node.output[0]}: PRelu does not fuse in an int8 graph; use Relu or Clip")
        if node.op_type == "Conv" and (text := _conv(node, makers)):
            found.append(f"node {node.name or node.output[0]}: {text}")
    return found


def _quantiser(node: NodeProto, tensors: dict[str, np.ndarray]) -> Iterator[str]:
    if len(node.input) > 2 and node.input[2]:
        zero = tensors.get(node.input[2])
        if zero is None:
            yield "its zero point is no constant"
        elif zero.dtype != np.int8:
            yield f"its zero point is {zero.dtype}; int8 is needed, others are read as if they were"
        elif zero.any():
            yield f"its zero point is {zero.ravel()[0]}; only 0 is taken"
    elif node.op_type == "QuantizeLinear":
        yield "it has no zero point, which makes it uint8"
    scale = tensors.get(node.input[1])
    if scale is None:
        yield "its scale is no constant"
    elif node.op_type == "QuantizeLinear" and node.input[0] not in tensors and scale.size > 1:
        yield f"an activation has {scale.size} scales; one is taken"
    elif not (scale > 0).all():
        yield "a scale is not above 0"


def _conv(node: NodeProto, makers: dict[str, NodeProto]) -> str | None:
    data, weight = (makers.get(name) for name in node.input[:2])
    int8_weight = weight is not None and weight.op_type == "DequantizeLinear"
    if int8_weight and data is not None and data.op_type == "Pad":
        before = makers.get(data.input[0])
        if before is not None and before.op_type == "DequantizeLinear":
            return "a Pad stands between its Q/DQ and the convolution, which keeps it from int8"
    if int8_weight and (data is None or data.op_type != "DequantizeLinear"):
        return "its weights are int8 and its input is not quantised"
    return None
