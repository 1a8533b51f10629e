"""What an int8 engine needs on processors whose int8 is not exact.

Processors without 8-bit dot products (VNNI) add pairs of 8-bit products in 16 bits, which saturate: by that OpenVINO
lost 2.4 dB of tiny_2x_int8 on Set5, on a processor with AVX2 alone. What a processor can do is not asked but tried.
"""

import functools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1, 3, 16, 16)
"""Shape of the probe's float32 input, which is to be 1 everywhere, and of its output."""

TOLERANCE = 1e-3
"""Where int8 is exact every output of the probe is within this of 1; with sums that saturate it is off by far more."""


@functools.cache
def probe() -> bytes:
    """One int8 convolution in which the largest weights meet the largest inputs, as serialised ONNX."""
    channels = SHAPE[1]
    tensor = helper.make_tensor
    tensors = [
        tensor("input_scale", TensorProto.FLOAT, [], [1 / 127]),
        tensor("zero", TensorProto.INT8, [], [0]),
        tensor("weight", TensorProto.INT8, [channels, channels, 1, 1], [127] * channels**2),
        tensor("weight_scale", TensorProto.FLOAT, [channels], [1 / (127 * channels)] * channels),
        tensor("zeros", TensorProto.INT8, [channels], [0] * channels),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "input_scale", "zero"], ["x_int8"]),
        helper.make_node("DequantizeLinear", ["x_int8", "input_scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["output"]),
    ]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, SHAPE) for end in ("input", "output")]
    graph = helper.make_graph(nodes, "probe", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()


def with_float_weights(model: bytes) -> bytes:
    """The same engine with its weights dequantised, so that a runtime has to convolve in float32.

    model: a serialised int8 engine, whose weights are int8 tensors behind a DequantizeLinear each. Activations are
        rounded to int8 as before: the result is that of exact int8, but for the order of summation.
    """
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    tensors = {t.name: t for t in graph.initializer}
    others = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in tensors:
            others.append(node)
            continue
        codes, scale = (numpy_helper.to_array(tensors[name]) for name in node.input[:2])
        if scale.ndim:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            scale = np.expand_dims(scale, tuple(i for i in range(codes.ndim) if i != axis % codes.ndim))
        weights = (codes.astype(np.float32) * scale).astype(scale.dtype)  # float16 in the form for TensorRT
        graph.initializer.append(numpy_helper.from_array(weights, node.output[0]))
    del graph.node[:]
    graph.node.extend(others)
    used = {name for node in others for name in node.input}
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return proto.SerializeToString()
