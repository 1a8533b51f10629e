"""How much memory a network's activations take, per input pixel."""

from __future__ import annotations

import math

import onnx
from onnx import ModelProto

SIDE = 512  # so large that a continued border (arch.Upscaler) hardly counts
# Peak resident memory over the sum below is 0.9 to 1.65, measured for four networks on OpenVINO and ONNX Runtime:
# buffers are padded, kept in blocks, converted between layouts, and not always reused at once.
OVERHEAD = 1.65


def bytes_per_pixel(proto: ModelProto) -> int:
    """Estimated peak bytes of activations per LR pixel when a whole frame is run, for choosing tile sizes.

    The nodes are walked in order; a tensor is alive from its node to its last consumer. Outputs of
    DequantizeLinear are not counted, since runtimes feed int8 to the convolution behind.
    """
    fixed = ModelProto()
    fixed.CopyFrom(proto)
    dims = fixed.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, (1, dims[1].dim_value, SIDE, SIDE), strict=True):
        dim.dim_value = size
    for dim in fixed.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    sizes = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        elements = math.prod(d.dim_value for d in tensor.shape.dim)
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        # A runtime without float16 arithmetic keeps such tensors in float32.
        sizes[value.name] = elements * (4 if tensor.elem_type == onnx.TensorProto.FLOAT16 else width)
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    last["output"] = len(graph.node)
    alive = {"input": sizes["input"]}
    peak = 0
    for i, node in enumerate(graph.node):
        weight = node.op_type == "DequantizeLinear"
        alive |= {name: 0 if weight else sizes.get(name, 0) for name in node.output}
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > i}
    return math.ceil(OVERHEAD * peak / SIDE**2)
