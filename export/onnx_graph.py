"""From a fused torch model, quantised or not, to one tidy ONNX model in memory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.version_converter
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor, nn

from .quantize import CODES, QuantConv2d, quant_convs

OPSETS = range(17, 22)
DEFAULT_OPSET = 20
TRACED_OPSET = 20  # the newest one torch's tracing exporter writes
ZERO = "zero_point"
NO_BIAS = 1e-20  # nothing in float32, but not zero
# Where a convolution's output is rounded, ONNX Runtime adds the bias in int32, counted in steps of input times weight.
# That overflows where a channel's weights, and so their step, are nothing beside its bias (33 dB from torch): a step is
# at least so large that the bias takes half of int32.
LARGEST_BIAS = 1 << 30
ONE_TENSOR = ("Relu", "Clip", "LeakyRelu", "DepthToSpace", "Pad", "Reshape", "Slice", "Transpose")


class _HalfInside(nn.Module):
    """float32 in and out, float16 weights and arithmetic."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half()

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image.half()).float()


def to_onnx(
    model: nn.Module,
    *,
    opset: int = DEFAULT_OPSET,
    half: bool = False,
    static: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ModelProto:
    """The ONNX model of a fused network: "input" (N, C, H, W) float32 -> "output" (N, C, s*H, s*W) float32.

    Convolutions of a quantised model (`export.quantize`) become QuantizeLinear, DequantizeLinear and a
    convolution with int8 weights behind a DequantizeLinear, all symmetric, weights per output channel. The same
    model gives the same bytes.

    opset: 17 to 21. half: float16 weights and arithmetic, with casts at both ends. static: fixed (height, width);
    otherwise batch, height and width are dynamic. metadata: written as metadata_props.

    Raises ValueError for another opset, or `half` of a quantised model.
    """
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}; allowed are {OPSETS.start} to {OPSETS.stop - 1}.")
    convs = dict(quant_convs(model))
    if half and convs:
        raise ValueError("A quantised model is exported with float32 as its other type, not float16.")
    channels = cast(Any, model).config.in_chans
    traced = _HalfInside(model) if half else model
    graph_model = _trace(traced, channels, min(opset, TRACED_OPSET), static)
    for tidy in (_inline_constants, _drop_identities, _fold_constants, _simplify, _merge_equal):
        tidy(graph_model.graph)
    _rename_scales(graph_model.graph)
    for name, conv in convs.items():
        _quantise_weight(graph_model.graph, name, conv)
    _split_convolutions(graph_model.graph)
    _drop_unused(graph_model.graph)
    if opset > TRACED_OPSET:
        graph_model = onnx.version_converter.convert_version(graph_model, opset)
        del graph_model.graph.value_info[:]
    if static:  # the exporter loses sight of it behind a Pad
        graph_model.graph.output[0].type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(graph_model, data_prop=True).graph.output[0]
        graph_model.graph.output[0].CopyFrom(inferred)
    _name_dimensions(graph_model.graph, channels, static)
    graph_model.producer_name, graph_model.producer_version = "aethernet", ""
    graph_model.ir_version = min(graph_model.ir_version, 10)
    helper.set_model_props(graph_model, dict(metadata or {}))
    return graph_model


def _trace(model: nn.Module, channels: int, opset: int, static: tuple[int, int] | None) -> ModelProto:
    import io

    model = copy.deepcopy(model).eval()
    for _, conv in quant_convs(model):
        conv.weight_quantizer.mode = "off"  # int8 weights are written by _quantise_weight
        conv.input_quantizer.requires_grad_(False)
    height, width = static or (24, 40)
    axes = None if static else {"input": {0: "n", 2: "h", 3: "w"}, "output": {0: "n", 2: "sh", 3: "sw"}}
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(1, channels, height, width),),
            cast(Any, file),  # its annotation knows paths only
            opset_version=opset,
            dynamo=False,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=axes,
            keep_initializers_as_inputs=True,  # otherwise equal weights become one, of the first one's name
        )
    proto = onnx.load_from_string(file.getvalue())
    del proto.graph.input[1:]
    return proto


def _inline_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers."""
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        tensor = TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _fold_constants(graph: onnx.GraphProto) -> None:
    """Evaluate nodes of constants, and channel counts asked of tensors whose channel count is fixed."""
    from onnx.reference import ReferenceEvaluator

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", TRACED_OPSET)])
    shapes: dict[str, list[int | None]] = {
        v.name: [d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim]
        for v in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    asked: dict[str, str] = {}  # output of a Shape node -> the tensor it asks about
    for node in list(graph.node):
        if node.op_type == "Shape":
            asked[node.output[0]] = node.input[0]
            continue
        value = None
        if node.op_type == "Gather" and node.input[0] in asked and node.input[1] in constants:
            index = constants[node.input[1]].reshape(())
            shape = shapes.get(asked[node.input[0]])
            size = shape[int(index)] if shape else None
            value = None if size is None else np.full(constants[node.input[1]].shape, size, np.int64)
        elif node.input and all(i in constants for i in node.input):
            inputs = {i: constants[i] for i in node.input}
            values = [
                helper.make_tensor_value_info(i, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                for i, v in inputs.items()
            ]
            single = helper.make_graph([node], "fold", values, [onnx.ValueInfoProto(name=node.output[0])])
            evaluator = ReferenceEvaluator(
                helper.make_model(single, opset_imports=[helper.make_opsetid("", TRACED_OPSET)])
            )
            value = cast(list[np.ndarray], evaluator.run(None, inputs))[0]
        if value is not None:
            constants[node.output[0]] = np.asarray(value)
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), node.output[0]))
            graph.node.remove(node)
    _drop_unused(graph)


def _simplify(graph: onnx.GraphProto) -> None:
    """x * 1 and x / 1 -> x; max(x, 0) -> Relu and max(x, constant) -> Clip, which runtimes fuse into convolutions."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        value = constants.get(node.input[1]) if len(node.input) == 2 else None
        if value is None or value.ndim > 0:
            continue
        if node.op_type in ("Mul", "Div") and value == 1.0:
            node.op_type = "Identity"
            del node.input[1]
        elif node.op_type == "Max" and value == 0.0:
            node.op_type = "Relu"
            del node.input[1]
        elif node.op_type == "Max":
            node.op_type = "Clip"
    _drop_identities(graph)


def _drop_identities(graph: onnx.GraphProto) -> None:
    replaced: dict[str, str] = {}
    for node in [n for n in graph.node if n.op_type == "Identity"]:
        replaced[node.output[0]] = replaced.get(node.input[0], node.input[0])
        graph.node.remove(node)
    _replace_inputs(graph, replaced)


def _merge_equal(graph: onnx.GraphProto) -> None:
    """Keep one of each small constant, and one of each node that does the same to the same inputs."""
    seen: dict[bytes, str] = {}
    replaced: dict[str, str] = {}
    for tensor in list(graph.initializer):
        if len(tensor.dims) > 1 or tensor.name.endswith((".weight", ".bias")):
            continue
        name, tensor.name = tensor.name, ""
        key = tensor.SerializeToString(deterministic=True)
        tensor.name = name
        if seen.setdefault(key, name) != name:
            replaced[name] = seen[key]
            graph.initializer.remove(tensor)
    _replace_inputs(graph, replaced)
    nodes: dict[bytes, str] = {}
    replaced = {}
    for node in list(graph.node):
        for i, name in enumerate(node.input):
            node.input[i] = replaced.get(name, name)
        if len(node.output) != 1 or node.output[0] == "output":
            continue
        bare = NodeProto()
        bare.CopyFrom(node)
        bare.name, bare.output[0] = "", ""
        key = bare.SerializeToString(deterministic=True)
        if nodes.setdefault(key, node.output[0]) != node.output[0]:
            replaced[node.output[0]] = nodes[key]
            graph.node.remove(node)


def _rename_scales(graph: onnx.GraphProto) -> None:
    """Name each input's step after its convolution: `<conv>.input_scale`, and share one zero point."""
    tensors = {t.name: t for t in graph.initializer}
    convs = {n.input[0]: n for n in graph.node if n.op_type == "Conv"}
    consumers = {n.input[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    for node in [n for n in graph.node if n.op_type == "QuantizeLinear"]:
        dequantize = consumers[node.output[0]]
        conv = convs[dequantize.output[0]]
        scale = TensorProto()
        scale.CopyFrom(tensors[node.input[1]])
        scale.name = conv.input[1].removesuffix(".weight") + ".input_scale"
        graph.initializer.append(scale)
        for n in (node, dequantize):
            n.input[1], n.input[2] = scale.name, ZERO
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.int8), ZERO))


def _quantise_weight(graph: onnx.GraphProto, name: str, conv: QuantConv2d) -> None:
    """Replace the float weight of a convolution by int8 codes and a DequantizeLinear."""
    node = next(n for n in graph.node if n.op_type == "Conv" and n.input[1] == f"{name}.weight")
    with torch.no_grad():
        scale = conv.weight_quantizer.scale
        if conv.bias is not None and _is_rounded(graph, node.output[0]):
            # The error of so coarse a step is nothing beside the bias that asks for it.
            least = conv.bias.abs() / (conv.input_quantizer.scale * LARGEST_BIAS)
            scale = torch.maximum(scale, least.view(-1, 1, 1, 1))
        codes = torch.clamp(torch.round(conv.weight / scale), -CODES, CODES).to(torch.int8)
    parts = {
        f"{name}.weight_int8": codes.cpu().numpy(),
        f"{name}.weight_scale": scale.detach().flatten().float().cpu().numpy(),
        f"{name}.weight_zero_point": np.zeros(codes.shape[0], np.int8),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in parts.items())
    dequantize = helper.make_node(
        "DequantizeLinear", list(parts), [f"{name}.weight_dequantized"], f"{name}.weight_dequantize", axis=0
    )
    graph.node.insert(list(graph.node).index(node), dequantize)
    node.input[1] = dequantize.output[0]
    if conv.bias is None or not conv.bias.any():
        # OpenVINO (2026.4) loses the other summand of a residual sum behind an int8 convolution without bias.
        bias = np.full(conv.out_channels, NO_BIAS, np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(bias, f"{name}.no_bias"))
        node.input[2:] = [f"{name}.no_bias"]


def _is_rounded(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a tensor is rounded to int8 before it is added to or multiplied by another."""
    same = {name}
    for node in graph.node:
        if node.input and node.input[0] in same:
            if node.op_type == "QuantizeLinear":
                return True
            if node.op_type in ONE_TENSOR:
                same.add(node.output[0])
    return False


def _split_convolutions(graph: onnx.GraphProto) -> None:
    """A convolution whose output is only cut into channel ranges becomes one convolution a range.

    The fused gate and main projections are such: cutting channels apart costs OpenVINO's CPU plugin as much as
    the convolution itself, and TensorRT merges convolutions of the same input by itself.
    """
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    for conv in [n for n in graph.node if n.op_type == "Conv"]:
        slices = [n for n in graph.node if conv.output[0] in n.input]
        if not slices or any(n.op_type != "Slice" or tensors[n.input[3]].tolist() != [1] for n in slices):
            continue
        source = next((n for n in graph.node if n.output[0] == conv.input[1]), None)  # the weight's DequantizeLinear
        for part in slices:
            window = slice(*(int(tensors[part.input[i]][0]) for i in (1, 2)))
            label = f".{window.start}"

            def cut(name: str, window: slice = window, label: str = label) -> str:
                graph.initializer.append(onnx.numpy_helper.from_array(tensors[name][window], name + label))
                return name + label

            position = list(graph.node).index(part)
            weight = conv.input[1]
            if source is not None:
                weight += label
                new = helper.make_node(
                    "DequantizeLinear", [cut(i) for i in source.input], [weight], source.name + label, axis=0
                )
                graph.node.insert(position, new)
                position += 1
            else:
                weight = cut(weight)
            new = NodeProto()
            new.CopyFrom(conv)
            new.name, new.output[0] = conv.name + label, part.output[0]
            new.input[1:] = [weight, *(cut(i) for i in conv.input[2:])]
            graph.node.insert(position, new)
            graph.node.remove(part)


def _replace_inputs(graph: onnx.GraphProto, replaced: Mapping[str, str]) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = replaced.get(name, name)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {o.name for o in graph.output}
    for node in reversed(list(graph.node)):
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(node.input)
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]


def _name_dimensions(graph: onnx.GraphProto, channels: int, static: tuple[int, int] | None) -> None:
    for value, names in ((graph.input[0], "height width"), (graph.output[0], "output_height output_width")):
        dims = value.type.tensor_type.shape.dim
        dims[1].dim_value = channels
        if static is None:
            for index, name in zip((0, 2, 3), ["batch", *names.split()], strict=True):
                dims[index].dim_param = name
