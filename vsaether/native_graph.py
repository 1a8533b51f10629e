"""Recognises in an int8 ONNX file of ours a network that the native kernels compute.

The graph must be, node for node, one that the kernels compute: nothing is passed over, so that what they give is what
the file says. All else is refused, with the reason.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from .graph_walk import GraphWalk, geometry, refuse
from .native_model import Block, Dense, Gated, Network

WIDTHS = range(16, 513, 16)
HIDDEN = range(16, 1025, 16)
KERNELS = (3, 5, 7)
SCALES = (2, 3, 4)
MAX_DEPTH = 256
MAX_BORDER = 64
IMAGE_MEAN = 0.5


def recognise(model: bytes) -> Network:
    """The network of a serialised ONNX model. Raises UnsupportedModelError."""
    return _Recogniser(onnx.load_model_from_string(model).graph).network()


class _Recogniser(GraphWalk):
    """Each method takes the nodes of a part of a network, and gives the tensor that comes out first."""

    def network(self) -> Network:
        if any(self.sizes[2:]):
            refuse(f"it is for frames of {self.sizes[3]}x{self.sizes[2]} alone")
        x, border = self.pad("input")
        mean = self.minus_mean(x)
        x, step = self.codes(mean)
        x, first = self.conv(x, 3)
        if first.weight.shape[1] != 3:
            refuse("its first convolution does not take three channels")
        channels = first.weight.shape[0]
        if channels not in WIDTHS:
            refuse(f"it has {channels} channels; the kernels take multiples of 16 up to {WIDTHS[-1]}")
        x, body, outputs = (self.dense if self.is_next(x, "Relu") else self.gated)(x, channels)
        depth = len(body.blocks) if isinstance(body, Gated) else len(body.layers) - 1
        if depth > MAX_DEPTH:
            refuse(f"it has {depth} blocks; the kernels take up to {MAX_DEPTH}")
        scale = self.picture(x, mean, outputs, border)
        if self.left:
            refuse(f"{self.left} of its nodes are not those of a network that the kernels know")
        return Network(step, first, body, scale, border)

    def pad(self, x: str) -> tuple[str, int]:
        if not self.is_next(x, "Pad"):
            return x, 0
        y, (pads,) = self.take("Pad", x, mode=b"edge")
        border = int(pads[2]) if pads.shape == (8,) else 0
        if pads.tolist() != [0, 0, border, border] * 2 or not 0 < border <= MAX_BORDER:
            refuse("its picture is not continued by as many pixels on all sides")
        return y, border

    def minus_mean(self, x: str) -> str:
        y, (mean,) = self.take("Sub", x)
        if mean.shape != () or mean != IMAGE_MEAN:
            refuse("it does not take 0.5 off the picture")
        return y

    def gated(self, x: str, channels: int) -> tuple[str, Gated, int]:
        first, blocks = x, []
        while True:
            codes, step = self.codes(x)
            if self.groups(codes) == 1:
                break
            x, block = self.block(x, codes, step, channels)
            blocks.append(block)
        shapes = {(block.gate.weight.shape, block.depthwise.weight.shape) for block in blocks}
        if len(shapes) != 1:
            refuse("it has no gated blocks" if not shapes else "its blocks are of several shapes")
        x, after = self.conv(codes, 3)
        self.expect(after.weight.shape[:2] == (channels, channels), "the convolution after the blocks")
        x = self.add(x, first)
        x, (weight, bias) = self.take("Conv", x, **geometry(3, 1))
        outputs = weight.shape[0]
        shaped = weight.shape == (outputs, channels, 3, 3) and bias.shape == (outputs,)
        self.expect(weight.dtype == bias.dtype == np.float32 and shaped, "the last convolution")
        return x, Gated(tuple(blocks), step, after, weight, bias), outputs

    def block(self, x: str, codes: str, step: float, channels: int) -> tuple[str, Block]:
        kernel = self.kernel_size(codes)
        if kernel not in KERNELS:
            refuse(f"it has depthwise convolutions of {kernel}x{kernel}; the kernels take 3x3, 5x5 and 7x7")
        y, depthwise = self.conv(codes, kernel, channels)
        self.expect(depthwise.weight.shape[:2] == (channels, 1), "a depthwise convolution")
        low, high = np.float32(-np.inf), np.float32(np.inf)
        if self.is_next(y, "Clip"):
            y, (low, high) = self.take("Clip", y)
        y, middle = self.codes(y)
        pair = sorted(self.convs(y), key=lambda node: not self.is_next(node.output[0], "Relu"))
        if len(pair) != 2:
            refuse("it has blocks without a gate")
        gate_out, gate = self.conv_node(pair[0], y, 1, 1)
        main_out, main = self.conv_node(pair[1], y, 1, 1)
        hidden = gate.weight.shape[0]
        if hidden not in HIDDEN or gate.weight.shape != main.weight.shape or gate.weight.shape[1] != channels:
            refuse(f"it has gates of {hidden} channels; the kernels take multiples of 16 up to {HIDDEN[-1]}")
        y = self.take("Relu", gate_out)[0]
        y = self.binary("Mul", y, main_out)
        y, product = self.codes(y)
        y, fc2 = self.conv(y, 1)
        self.expect(fc2.weight.shape[:2] == (channels, hidden), "a block's last convolution")
        return self.add(x, y), Block(step, depthwise, (float(low), float(high)), middle, gate, main, product, fc2)

    def dense(self, x: str, channels: int) -> tuple[str, Dense, int]:
        layers = []
        while True:
            if self.is_next(x, "Relu"):
                x = self.take("Relu", x)[0]
            x, step = self.codes(x)
            x, conv = self.conv(x, 3)
            self.expect(conv.weight.shape[1] == channels, "a convolution")
            layers.append((step, conv))
            if not self.is_next(x, "Relu"):
                return x, Dense(tuple(layers)), conv.weight.shape[0]
            self.expect(conv.weight.shape[0] == channels, "a convolution")

    def picture(self, x: str, mean: str, outputs: int, border: int) -> int:
        """What follows the last convolution: the picture added, its pixels shuffled, the border cut off; the scale."""
        scale = round((outputs / 3) ** 0.5)
        if outputs != 3 * scale * scale or scale not in SCALES:
            refuse(f"it has {outputs} outputs a pixel; the kernels take 3 channels of scales 2, 3 and 4")
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


def _is_window(constants: Sequence[np.ndarray], start: list[int], end: list[int], axes: list[int]) -> bool:
    return [constant.tolist() for constant in constants] == [start, end, axes, [1]]
