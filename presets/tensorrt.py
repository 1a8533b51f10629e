"""What TensorRT is given of an int8 engine: the same int8, with float16 around it.

TensorRT computes what is not int8 in the type of the file, and an engine's file has float32 there, which every other
runtime computes faster or more exactly. Export, `vsaether build` and the TensorRT backends all take this form.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .engine import PREFIX
from .errors import EngineFileError

SMALLEST = 2.0**-14
"""The smallest normal float16: an int8 step below it would lose digits."""

MARK = {f"{PREFIX}float": "fp16"}
"""Metadata of the form, beside that of the engine."""


def half_around_int8(model: bytes) -> bytes:
    """An int8 engine with float16 for all that is not int8, cast from and to float32 at its ends.

    The int8 weights stay as they are; those whose step would lose digits in float16 are rounded anew, with the smallest
    step that does not. Of the form itself nothing is changed. Raises EngineFileError, naming what stands in the way,
    where a value is too large for float16 or an operator cannot have it.
    """
    proto = onnx.load_model_from_string(model)
    props = {entry.key: entry.value for entry in proto.metadata_props}
    if MARK.items() <= props.items():
        return model
    graph = proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = tensors.get(node.input[1])
            if scale is None:
                raise EngineFileError(f"{node.name or node.output[0]} has a step that is no constant")
            if node.input[0] in tensors:
                _round_anew(tensors[node.input[0]], scale)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _write(scale := tensors[node.input[1]], np.maximum(numpy_helper.to_array(scale), SMALLEST))
    constants = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT:
            _to_half(tensor)
    _cast_ends(graph)
    helper.set_model_props(proto, props | MARK)
    del graph.value_info[:]
    try:
        onnx.checker.check_model(proto, full_check=True)  # types too: an operator that mixes them is found here
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())
        raise EngineFileError(f"float16 cannot stand around the engine's int8: {reason[:300]}") from error
    return proto.SerializeToString(deterministic=True)


def _round_anew(codes: TensorProto, scale: TensorProto) -> None:
    """Int8 weights for steps of at least SMALLEST, one an output channel or one for all."""
    steps, values = numpy_helper.to_array(scale), numpy_helper.to_array(codes)
    if (steps < SMALLEST).any():
        ratio = np.minimum(steps / SMALLEST, 1).reshape(-1, *[1] * (values.ndim - 1))
        _write(codes, np.rint(values * ratio).astype(values.dtype))


def _to_half(tensor: TensorProto) -> None:
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(tensor).astype(np.float16)
    if np.isinf(values).any():
        raise EngineFileError(f"{tensor.name} has a value that is too large for float16")
    _write(tensor, values)


def _cast_ends(graph: onnx.GraphProto) -> None:
    """float32 at both ends, float16 between."""
    inside = {graph.input[0].name: "input.half", graph.output[0].name: "output.half"}
    for node in graph.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
    (start, first), (end, last) = inside.items()
    graph.node.insert(0, helper.make_node("Cast", [start], [first], name="Cast_input", to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [last], [end], name="Cast_output", to=TensorProto.FLOAT))


def _write(tensor: TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
