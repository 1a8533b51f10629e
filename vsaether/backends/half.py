"""Half precision at both ends of an engine: frames go to a card and come back in half the bytes.

An fp16 engine casts its input to float16 and its output back. Without these casts it takes and gives float16 (RGBH
instead of RGBS): the cast to float16 is then VapourSynth's, which rounds alike (to nearest, ties to even, subnormals
kept), and the way back is exact. So every value stays the same, and with it every bit of what is made of them, dithered
or not, in any format. Engines without such casts, fp32 and int8, keep float32: an input that is not rounded to 11 bits
there may fall on another side of an int8 step.
"""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import functools

import onnx
import vapoursynth as vs
from onnx import ModelProto, TensorProto, helper


def as_half(clip: vs.VideoNode) -> vs.VideoNode:
    """RGBH of RGBS or RGBH, rounded to the nearest."""
    return clip if clip.format.id == vs.RGBH else clip.resize.Point(format=vs.RGBH)


def as_float(clip: vs.VideoNode) -> vs.VideoNode:
    """RGBS of RGBS or RGBH, exactly. A resampler needs it: of RGBH it would keep float16 in between."""
    return clip if clip.format.id == vs.RGBS else clip.resize.Point(format=vs.RGBS)


@functools.lru_cache(maxsize=8)
def has_half_ends(model: bytes) -> bool:
    """Whether an engine takes and gives float16."""
    graph = onnx.load_model_from_string(model).graph
    return all(end.type.tensor_type.elem_type == TensorProto.FLOAT16 for end in (*graph.input, *graph.output))


@functools.lru_cache(maxsize=8)
def half_ends(model: bytes) -> bytes | None:
    """The same engine with a float16 input and output; None where it does not cast its ends to and from float16."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    start, end = graph.input[0].name, graph.output[0].name
    first = [node for node in graph.node if start in node.input]
    last = [node for node in graph.node if end in node.output]
    inside = [cast.output[0] for cast in first]
    if any(_target(cast) != TensorProto.FLOAT16 for cast in first) or [_target(n) for n in last] != [TensorProto.FLOAT]:
        return None
    result = last[0].input[0]
    if end in inside or result in (start, *inside) or any(end in node.input for node in graph.node):
        return None
    for cast in [*first, *last]:
        graph.node.remove(cast)
    for node in graph.node:
        node.input[:] = [start if name in inside else end if name == result else name for name in node.input]
        node.output[:] = [end if name == result else name for name in node.output]
    return _with_half_ends(proto)


def _target(node: onnx.NodeProto) -> int | None:
    """The type that a Cast makes; None of another node."""
    return helper.get_attribute_value(node.attribute[0]) if node.op_type == "Cast" else None


def _with_half_ends(proto: ModelProto) -> bytes:
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del proto.graph.value_info[:]
    return proto.SerializeToString()
