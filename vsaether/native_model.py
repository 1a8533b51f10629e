"""From an int8 ONNX file of ours to the model blob of the native kernels (native/model.cpp reads it).

The graph must be, node for node, one that the kernels compute: nothing is passed over, so that what they give is what
the file says. All else is refused, with the reason.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import NodeProto

from presets.errors import AetherNetError

MAGIC = b"AETHER01"
WIDTHS = range(16, 513, 16)
HIDDEN = range(16, 1025, 16)
KERNELS = (3, 5, 7)
SCALES = (2, 3, 4)
MAX_DEPTH = 256
MAX_BORDER = 64
IMAGE_MEAN = 0.5
DEFAULTS = {"block_size": 0, "saturate": 1, "output_dtype": 0, "auto_pad": b"NOTSET"}  # which exporters may write
GATED_CODES, DENSE_CODES = 2, 2  # frames of codes in memory
STREAM_BYTES = 4  # of the residual stream's float32
PICTURE_BYTES = 32  # a pixel: its own codes, and what is around


class UnsupportedModelError(AetherNetError):
    """The kernels do not compute this model; the message says what of it."""


@dataclass(frozen=True)
class Blob:
    """A model as the kernels read it."""

    data: bytes
    gated: bool
    channels: int

    def bytes_per_pixel(self, code_bytes: int = 1) -> int:
        """Memory of a frame per input pixel, where a code takes 1 byte, or 2 without 8-bit dot products."""
        frames = (GATED_CODES if self.gated else DENSE_CODES) * code_bytes + (STREAM_BYTES if self.gated else 0)
        return frames * self.channels + PICTURE_BYTES


@dataclass(frozen=True)
class _Conv:
    """An integer convolution: int8 (out, in, k, k), and float32 (out,) twice."""

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    def packed(self) -> bytes:
        return self.weight.tobytes() + _floats(self.scale) + _floats(self.bias)


def pack(model: bytes) -> Blob:
    """The blob of a serialised ONNX model. Raises UnsupportedModelError."""
    graph = onnx.load_model_from_string(model).graph
    return _Walk(graph).blob()


def _floats(values: Any) -> bytes:
    return np.asarray(values, "<f4").tobytes()


def _refuse(reason: str) -> NoReturn:
    raise UnsupportedModelError(reason)


class _Walk:
    """Follows the graph from its input; every node is taken once, and none may be left."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.consumers: dict[str, list[NodeProto]] = {}
        self.left = len(graph.node)
        self.sizes = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                if name not in self.constants:
                    self.consumers.setdefault(name, []).append(node)
        self.weights = {
            node.output[0]: node
            for node in graph.node
            if node.op_type == "DequantizeLinear" and all(name in self.constants for name in node.input)
        }

    def blob(self) -> Blob:
        if any(self.sizes[2:]):
            _refuse(f"it is for frames of {self.sizes[3]}x{self.sizes[2]} alone")
        x, border = self.pad("input")
        mean = self.minus_mean(x)
        x, step = self.codes(mean)
        x, first = self.conv(x, 3)
        if first.weight.shape[1] != 3:
            _refuse("its first convolution does not take three channels")
        channels = first.weight.shape[0]
        if channels not in WIDTHS:
            _refuse(f"it has {channels} channels; the kernels take multiples of 16 up to {WIDTHS[-1]}")
        gated = not self.is_next(x, "Relu")
        start = _floats(step) + first.packed()
        x, hidden, kernel, depth, layers, outputs = (self.gated if gated else self.dense)(x, channels)
        if depth > MAX_DEPTH:
            _refuse(f"it has {depth} blocks; the kernels take up to {MAX_DEPTH}")
        scale = self.picture(x, mean, outputs, border)
        if self.left:
            _refuse(f"{self.left} of its nodes are not those of a network that the kernels know")
        header = struct.pack("<7I", int(gated), channels, hidden, kernel, depth, scale, border)
        return Blob(MAGIC + header + start + layers, gated, channels)

    # The parts of a network; each takes its nodes, and gives the tensor that comes out first.

    def pad(self, x: str) -> tuple[str, int]:
        if not self.is_next(x, "Pad"):
            return x, 0
        y, (pads,) = self.take("Pad", x, mode=b"edge")
        border = int(pads[2]) if pads.shape == (8,) else 0
        if pads.tolist() != [0, 0, border, border] * 2 or not 0 < border <= MAX_BORDER:
            _refuse("its picture is not continued by as many pixels on all sides")
        return y, border

    def minus_mean(self, x: str) -> str:
        y, (mean,) = self.take("Sub", x)
        if mean.shape != () or mean != IMAGE_MEAN:
            _refuse("it does not take 0.5 off the picture")
        return y

    def gated(self, x: str, channels: int) -> tuple[str, int, int, int, bytes, int]:
        first, parts, shapes = x, [], set()
        while True:
            codes, step = self.codes(x)
            if self.groups(codes) == 1:
                break
            x, block, hidden, kernel = self.block(x, codes, step, channels)
            parts.append(block)
            shapes.add((hidden, kernel))
        if len(shapes) != 1:
            _refuse("it has no gated blocks" if not shapes else "its blocks are of several shapes")
        (hidden, kernel), depth = shapes.pop(), len(parts)
        x, after = self.conv(codes, 3)
        self.expect(after.weight.shape[:2] == (channels, channels), "the convolution after the blocks")
        x = self.add(x, first)
        x, (weight, bias) = self.take("Conv", x, **_geometry(3, 1))
        outputs = weight.shape[0]
        shaped = weight.shape == (outputs, channels, 3, 3) and bias.shape == (outputs,)
        self.expect(weight.dtype == bias.dtype == np.float32 and shaped, "the last convolution")
        parts += [_floats(step), after.packed(), _floats(weight.transpose(2, 3, 1, 0)), _floats(bias)]
        return x, hidden, kernel, depth, b"".join(parts), outputs

    def block(self, x: str, codes: str, step: float, channels: int) -> tuple[str, bytes, int, int]:
        """x + fc2(relu(gate(y)) * main(y)), y = clip(depthwise(x)): tensor, bytes, hidden channels, kernel size."""
        kernel = self.kernel_size(codes)
        if kernel not in KERNELS:
            _refuse(f"it has depthwise convolutions of {kernel}x{kernel}; the kernels take 3x3, 5x5 and 7x7")
        y, depthwise = self.conv(codes, kernel, channels)
        self.expect(depthwise.weight.shape[:2] == (channels, 1), "a depthwise convolution")
        low, high = np.float32(-np.inf), np.float32(np.inf)
        if self.is_next(y, "Clip"):
            y, (low, high) = self.take("Clip", y)
        y, middle = self.codes(y)
        pair = sorted(self.convs(y), key=lambda node: not self.is_next(node.output[0], "Relu"))
        if len(pair) != 2:
            _refuse("it has blocks without a gate")
        gate_out, gate = self.conv_node(pair[0], y, 1, 1)
        main_out, main = self.conv_node(pair[1], y, 1, 1)
        hidden = gate.weight.shape[0]
        if hidden not in HIDDEN or gate.weight.shape != main.weight.shape or gate.weight.shape[1] != channels:
            _refuse(f"it has gates of {hidden} channels; the kernels take multiples of 16 up to {HIDDEN[-1]}")
        y = self.take("Relu", gate_out)[0]
        y = self.binary("Mul", y, main_out)
        y, product = self.codes(y)
        y, fc2 = self.conv(y, 1)
        self.expect(fc2.weight.shape[:2] == (channels, hidden), "a block's last convolution")
        data = _floats(step) + depthwise.packed() + _floats([low, high]) + _floats(middle)
        data += gate.packed() + main.packed() + _floats(product) + fc2.packed()
        return self.add(x, y), data, hidden, kernel

    def dense(self, x: str, channels: int) -> tuple[str, int, int, int, bytes, int]:
        parts, depth = [], -1
        while True:
            if self.is_next(x, "Relu"):
                x = self.take("Relu", x)[0]
            x, step = self.codes(x)
            x, conv = self.conv(x, 3)
            self.expect(conv.weight.shape[1] == channels, "a convolution")
            parts += [_floats(step), conv.packed()]
            depth += 1
            if not self.is_next(x, "Relu"):
                return x, 0, 3, depth, b"".join(parts), conv.weight.shape[0]
            self.expect(conv.weight.shape[0] == channels, "a convolution")

    def picture(self, x: str, mean: str, outputs: int, border: int) -> int:
        """What follows the last convolution: the picture added, its pixels shuffled, the border cut off; the scale."""
        scale = round((outputs / 3) ** 0.5)
        if outputs != 3 * scale * scale or scale not in SCALES:
            _refuse(f"it has {outputs} outputs a pixel; the kernels take 3 channels of scales 2, 3 and 4")
        planes = []
        for channel in range(3):
            y, window = self.take("Slice", mean, starts=[channel])
            self.expect(_is_window(window, [channel], [channel + 1], [1]), "the picture's residual")
            planes.append(y)
        names = [plane for plane in planes for _ in range(scale * scale)]
        repeated = self.take_node("Concat", names, {"axis": 1}).output[0]
        x = self.add(x, repeated)
        x = self.take("DepthToSpace", x, blocksize=scale, mode=b"CRD")[0]
        x, (half,) = self.take("Add", x)
        self.expect(half.shape == () and half == IMAGE_MEAN, "the end")
        if border:
            for axis in (2, 3):
                x, window = self.take("Slice", x)
                self.expect(_is_window(window, [border * scale], [-border * scale], [axis]), "the border's cut")
        self.expect(x == "output", "the end")
        return scale

    # Small pieces.

    def codes(self, x: str) -> tuple[str, float]:
        """QuantizeLinear and DequantizeLinear of one step and zero point 0."""
        y, constants = self.take("QuantizeLinear", x)
        z, again = self.take("DequantizeLinear", y)
        good = len(constants) == len(again) == 2 and all(
            a.shape == () and a.dtype == b.dtype == kind and a == b
            for a, b, kind in zip(constants, again, (np.float32, np.int8), strict=True)
        )
        if not good or constants[1] != 0:
            _refuse("its codes are not symmetric int8 of one step a tensor")
        return z, float(constants[0])

    def convs(self, x: str) -> list[NodeProto]:
        return [node for node in self.consumers.get(x, ()) if node.op_type == "Conv"]

    def attribute(self, x: str, name: str) -> Any:
        convs = self.convs(x)
        if not convs:
            _refuse("it rounds what is no convolution's input")
        return _attributes(convs[0]).get(name)

    def groups(self, x: str) -> int:
        return self.attribute(x, "group") or 1

    def kernel_size(self, x: str) -> int:
        return (self.attribute(x, "kernel_shape") or [0])[0]

    def conv(self, x: str, kernel: int, groups: int = 1) -> tuple[str, _Conv]:
        convs = self.convs(x)
        if len(convs) != 1:
            _refuse(f"{len(convs)} convolutions share an input where one is known")
        return self.conv_node(convs[0], x, kernel, groups)

    def conv_node(self, node: NodeProto, x: str, kernel: int, groups: int) -> tuple[str, _Conv]:
        source = self.weights.get(node.input[1]) if len(node.input) == 3 else None
        if source is None or node.input[0] != x or node.input[2] not in self.constants:
            _refuse(f"the convolution {node.name} has no int8 weights, or no bias")
        self.check_attributes(node, _geometry(kernel, groups))
        self.check_attributes(source, {"axis": 0})
        self.consumers[x].remove(node)
        self.left -= 2  # the convolution, and its weight's DequantizeLinear
        weight, scale, zero = (self.constants[name] for name in source.input)
        bias, out = self.constants[node.input[2]], weight.shape[0]
        shapes = weight.shape[2:] == (kernel, kernel) and scale.shape == zero.shape == bias.shape == (out,)
        types = weight.dtype == zero.dtype == np.int8 and scale.dtype == bias.dtype == np.float32
        if not shapes or not types or zero.any():
            _refuse(f"the convolution {node.name} has no symmetric int8 weights of one step an output")
        return node.output[0], _Conv(weight, scale, bias)

    def add(self, x: str, y: str) -> str:
        return self.binary("Add", x, y)

    def binary(self, op: str, x: str, y: str) -> str:
        for names in ([x, y], [y, x]):
            if any(node.op_type == op and list(node.input) == names for node in self.consumers.get(x, ())):
                return self.take_node(op, names, {}).output[0]
        _refuse(f"it has no {op} of {x} and {y}")

    def is_next(self, x: str, op: str) -> bool:
        return [node.op_type for node in self.consumers.get(x, ())] == [op]

    def take(
        self, op: str, x: str, *, starts: Sequence[int] | None = None, **attributes: Any
    ) -> tuple[str, list[np.ndarray]]:
        """The one node of that operator which takes x and, beyond it, constants: its output, and these."""
        nodes = [node for node in self.consumers.get(x, ()) if node.op_type == op and node.input[0] == x]
        nodes = [node for node in nodes if all(name in self.constants for name in node.input[1:])]
        if starts is not None:
            nodes = [node for node in nodes if self.constants[node.input[1]].tolist() == starts]
        if op == "Conv":
            nodes = [node for node in nodes if len(node.input) == 3]
        if not nodes:
            _refuse(f"{x} does not go into a {op}")
        node = self.take_node(op, list(nodes[0].input), attributes)
        return node.output[0], [self.constants[name] for name in node.input[1:]]

    def take_node(self, op: str, inputs: Sequence[str], attributes: dict[str, Any]) -> NodeProto:
        for node in self.consumers.get(inputs[0], ()):
            if node.op_type == op and list(node.input) == list(inputs):
                self.check_attributes(node, attributes)
                for name in dict.fromkeys(inputs):
                    if name in self.consumers:
                        self.consumers[name].remove(node)
                self.left -= 1
                return node
        _refuse(f"{inputs[0]} does not go into a {op}")

    @staticmethod
    def check_attributes(node: NodeProto, expected: dict[str, Any]) -> None:
        if _attributes(node) != expected:
            _refuse(f"{node.op_type} {node.name} has the attributes {_attributes(node)}; known are {expected}")

    @staticmethod
    def expect(condition: bool, part: str) -> None:
        if not condition:
            _refuse(f"{part} is not as the kernels know it")


def _attributes(node: NodeProto) -> dict[str, Any]:
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value for name, value in found.items() if DEFAULTS.get(name) != value}


def _geometry(kernel: int, groups: int) -> dict[str, Any]:
    """A convolution's attributes."""
    ones, half = [1, 1], kernel // 2
    return {
        "dilations": ones,
        "group": groups,
        "kernel_shape": [kernel, kernel],
        "pads": [half] * 4,
        "strides": ones,
    }


def _is_window(constants: Sequence[np.ndarray], start: list[int], end: list[int], axes: list[int]) -> bool:
    return [constant.tolist() for constant in constants] == [start, end, axes, [1]]
