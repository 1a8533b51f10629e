"""A walk through an ONNX graph in which every node is taken once, with exactly the attributes that are expected."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import NodeProto

from presets.errors import AetherNetError

from .native_model import Conv

DEFAULTS = {"block_size": 0, "saturate": 1, "output_dtype": 0, "auto_pad": b"NOTSET"}  # which exporters may write


class UnsupportedModelError(AetherNetError):
    """The kernels do not compute this model; the message says what of it."""


def refuse(reason: str) -> NoReturn:
    """Raise UnsupportedModelError."""
    raise UnsupportedModelError(reason)


class GraphWalk:
    """Follows a graph from tensor to tensor; `left` counts the nodes that were not taken.

    x and y are names of tensors. What is not as expected raises UnsupportedModelError.
    """

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

    def codes(self, x: str) -> tuple[str, float]:
        """QuantizeLinear and DequantizeLinear of one step and zero point 0."""
        y, constants = self.take("QuantizeLinear", x)
        z, again = self.take("DequantizeLinear", y)
        good = len(constants) == len(again) == 2 and all(
            a.shape == () and a.dtype == b.dtype == kind and a == b
            for a, b, kind in zip(constants, again, (np.float32, np.int8), strict=True)
        )
        if not good or constants[1] != 0:
            refuse("its codes are not symmetric int8 of one step a tensor")
        return z, float(constants[0])

    def convs(self, x: str) -> list[NodeProto]:
        """The convolutions that take x and were not taken yet."""
        return [node for node in self.consumers.get(x, ()) if node.op_type == "Conv"]

    def attribute(self, x: str, name: str) -> Any:
        """An attribute of the first convolution that takes x; None where it has none of that name."""
        convs = self.convs(x)
        if not convs:
            refuse("it rounds what is no convolution's input")
        return _attributes(convs[0]).get(name)

    def groups(self, x: str) -> int:
        """The groups of the first convolution that takes x."""
        return self.attribute(x, "group") or 1

    def kernel_size(self, x: str) -> int:
        """The height of the kernel of the first convolution that takes x."""
        return (self.attribute(x, "kernel_shape") or [0])[0]

    def conv(self, x: str, kernel: int, groups: int = 1) -> tuple[str, Conv]:
        """The one int8 convolution of x, of that geometry: its output, and its weights."""
        convs = self.convs(x)
        if len(convs) != 1:
            refuse(f"{len(convs)} convolutions share an input where one is known")
        return self.conv_node(convs[0], x, kernel, groups)

    def conv_node(self, node: NodeProto, x: str, kernel: int, groups: int) -> tuple[str, Conv]:
        """That convolution of x, as `conv` does."""
        source = self.weights.get(node.input[1]) if len(node.input) == 3 else None
        if source is None or node.input[0] != x or node.input[2] not in self.constants:
            refuse(f"the convolution {node.name} has no int8 weights, or no bias")
        self.check_attributes(node, geometry(kernel, groups))
        self.check_attributes(source, {"axis": 0})
        self.consumers[x].remove(node)
        self.left -= 2  # the convolution, and its weight's DequantizeLinear
        weight, scale, zero = (self.constants[name] for name in source.input)
        bias, out = self.constants[node.input[2]], weight.shape[0]
        shapes = weight.shape[2:] == (kernel, kernel) and scale.shape == zero.shape == bias.shape == (out,)
        types = weight.dtype == zero.dtype == np.int8 and scale.dtype == bias.dtype == np.float32
        if not shapes or not types or zero.any():
            refuse(f"the convolution {node.name} has no symmetric int8 weights of one step an output")
        return node.output[0], Conv(weight, scale, bias)

    def add(self, x: str, y: str) -> str:
        """The sum of x and y."""
        return self.binary("Add", x, y)

    def binary(self, op: str, x: str, y: str) -> str:
        """The output of an operator of x and y, in either order."""
        for names in ([x, y], [y, x]):
            if any(node.op_type == op and list(node.input) == names for node in self.consumers.get(x, ())):
                return self.take_node(op, names, {}).output[0]
        refuse(f"it has no {op} of {x} and {y}")

    def is_next(self, x: str, op: str) -> bool:
        """Whether an operator of that kind, and nothing else, takes x."""
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
            refuse(f"{x} does not go into a {op}")
        node = self.take_node(op, list(nodes[0].input), attributes)
        return node.output[0], [self.constants[name] for name in node.input[1:]]

    def take_node(self, op: str, inputs: Sequence[str], attributes: dict[str, Any]) -> NodeProto:
        """The node of that operator with exactly these inputs and attributes."""
        for node in self.consumers.get(inputs[0], ()):
            if node.op_type == op and list(node.input) == list(inputs):
                self.check_attributes(node, attributes)
                for name in dict.fromkeys(inputs):
                    if name in self.consumers:
                        self.consumers[name].remove(node)
                self.left -= 1
                return node
        refuse(f"{inputs[0]} does not go into a {op}")

    @staticmethod
    def check_attributes(node: NodeProto, expected: dict[str, Any]) -> None:
        """Refuse a node that has other attributes."""
        if _attributes(node) != expected:
            refuse(f"{node.op_type} {node.name} has the attributes {_attributes(node)}; known are {expected}")

    @staticmethod
    def expect(condition: bool, part: str) -> None:
        """Refuse the model where a part of it is not as it should be."""
        if not condition:
            refuse(f"{part} is not as the kernels know it")


def _attributes(node: NodeProto) -> dict[str, Any]:
    found = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value for name, value in found.items() if DEFAULTS.get(name) != value}


def geometry(kernel: int, groups: int) -> dict[str, Any]:
    """A convolution's attributes."""
    ones, half = [1, 1], kernel // 2
    return {
        "dilations": ones,
        "group": groups,
        "kernel_shape": [kernel, kernel],
        "pads": [half] * 4,
        "strides": ones,
    }
