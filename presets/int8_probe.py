"""A small engine that shows whether a runtime computes int8 exactly on this processor.

Processors without 8-bit dot products (VNNI) add pairs of 8-bit products in 16 bits, which saturate: by that OpenVINO
lost 2.4 dB of tiny_2x_int8 on Set5, on a processor with AVX2 alone. What a processor can do is not asked but tried.
"""

import functools

from onnx import TensorProto, helper

SHAPE = (1, 3, 16, 16)
"""Shape of the float32 input, which is to be 1 everywhere, and of the output."""

TOLERANCE = 1e-3
"""Where int8 is exact every output is within this of 1; with sums that saturate it is off by 0.1 and more."""


@functools.cache
def model() -> bytes:
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
    graph = helper.make_graph(nodes, "int8_probe", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
