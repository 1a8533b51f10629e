"""Networks that the native kernels compute, and their model blob (native/model.cpp reads it).

What an engine's file holds is recognised by native_graph; here it is put into the order and the types of the blob.
"""

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

MAGIC = b"AETHER01"
CODE_FRAMES = 2  # frames of codes in memory
STREAM_BYTES = 4  # of the residual stream's float32, which gated networks have
PICTURE_BYTES = 32  # a pixel: its own codes, and what is around
DEAD = 1e-3  # a block that moves no later code by more of a step than this is left out


@dataclass(frozen=True)
class Conv:
    """An integer convolution: weights int8 (out, in, k, k), scale and bias float32 (out,)."""

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Block:
    """x + fc2(relu(gate(y)) * main(y)), y = clip(depthwise(x)). `input`, `middle` and `product` are the steps of the
    codes that the depthwise convolution, gate and main, and fc2 take; `clip` is (low, high).
    """

    input: float
    depthwise: Conv
    clip: tuple[float, float]
    middle: float
    gate: Conv
    main: Conv
    product: float
    fc2: Conv


@dataclass(frozen=True)
class Gated:
    """Blocks, a 3x3 convolution of codes of a step, and a last one in float32: weight (out, in, 3, 3), bias (out,)."""

    blocks: tuple[Block, ...]
    step: float
    after: Conv
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Dense:
    """3x3 convolutions with ReLU between, each with the step of its input's codes."""

    layers: tuple[tuple[float, Conv], ...]


@dataclass(frozen=True)
class Network:
    """A network from picture to picture: the picture's step, the first convolution, the body; the scale, and by how
    many pixels the picture is continued.
    """

    step: float
    first: Conv
    body: Gated | Dense
    scale: int
    border: int

    @property
    def channels(self) -> int:
        """Channels of the body."""
        return self.first.weight.shape[0]


@dataclass(frozen=True)
class Blob:
    """A network as the kernels read it."""

    data: bytes
    gated: bool
    channels: int

    def bytes_per_pixel(self, code_bytes: int = 1) -> int:
        """Memory of a frame per input pixel, where a gated network's code takes 1 byte, or 2 on AVX2 alone."""
        frames = CODE_FRAMES * code_bytes + STREAM_BYTES if self.gated else CODE_FRAMES
        return frames * self.channels + PICTURE_BYTES


def pack(network: Network) -> Blob:
    """The blob of a network, in the order of native/model.cpp: numbers are little-endian, arrays are C-contiguous."""
    body = network.body
    gated = isinstance(body, Gated)
    if isinstance(body, Gated):
        depthwise, gate = body.blocks[0].depthwise.weight, body.blocks[0].gate.weight
        blocks = live_blocks(body)
        shape = (gate.shape[0], depthwise.shape[2], len(blocks))
        parts = [*map(_block, blocks), _floats(body.step), _conv(body.after)]
        parts += [_floats(body.weight.transpose(2, 3, 1, 0)), _floats(body.bias)]
    else:
        shape = (0, 3, len(body.layers) - 1)
        parts = [_floats(step) + _conv(layer) for step, layer in body.layers]
    header = struct.pack("<7I", int(gated), network.channels, *shape, network.scale, network.border)
    start = MAGIC + header + _floats(network.step) + _conv(network.first)
    return Blob(start + b"".join(parts), gated, network.channels)


def live_blocks(body: Gated) -> list[Block]:
    """The blocks, without those whose gates training has closed: all that such a block adds is its bias, which goes
    into the block before it. (What else it could add, at most, is less than DEAD of any step that codes have after it.)
    """
    blocks: list[Block] = []
    for number, block in enumerate(body.blocks):
        step = min([body.step, *(later.input for later in body.blocks[number + 1 :])])
        fc2 = block.fc2
        most = 128 * block.product * np.abs(fc2.weight.astype(np.float64)).sum((1, 2, 3)) * np.abs(fc2.scale)
        if blocks and most.max() < DEAD * step:
            before = blocks[-1]
            blocks[-1] = replace(before, fc2=replace(before.fc2, bias=before.fc2.bias + fc2.bias))
        else:
            blocks.append(block)
    return blocks


def _block(block: Block) -> bytes:
    data = _floats(block.input) + _conv(block.depthwise) + _floats(block.clip) + _floats(block.middle)
    return data + _conv(block.gate) + _conv(block.main) + _floats(block.product) + _conv(block.fc2)


def _conv(conv: Conv) -> bytes:
    return conv.weight.tobytes() + _floats(conv.scale) + _floats(conv.bias)


def _floats(values: Any) -> bytes:
    return np.asarray(values, "<f4").tobytes()
