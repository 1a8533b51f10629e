"""The steps from a network to the bytes of one verified ONNX file."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor, nn

import arch
from arch.keys import is_observed
from presets.engine import WHOLE_IMAGE, Metadata

from .equalise import equalise
from .errors import ExportError
from .graph import DEFAULT_OPSET, OPSETS, set_metadata, to_onnx
from .memory import bytes_per_pixel
from .quantizer import Method, QuantConv2d, calibrate, quantize
from .ranges import load_quantized
from .verify import Agreement, Precision, serialise, verify

LICENCE = "MIT"


@dataclass(frozen=True)
class Source:
    """A checkpoint, read: the network as it was given, the fused one, and the state dict with its ranges."""

    given: arch.Upscaler
    fused: arch.Upscaler
    state: dict[str, Tensor]

    @property
    def config(self) -> arch.Config:
        """The network's configuration."""
        return self.given.config

    @property
    def quantized(self) -> bool:
        """Whether the checkpoint comes from quantisation-aware training that learnt the ranges int8 needs."""
        return any(not is_observed(key) for key in arch.split_ranges(self.state)[1])

    @property
    def observed(self) -> bool:
        """Whether the checkpoint comes from torch.ao's quantisation-aware training.

        Its observers hold the ranges of weights and of modules' outputs, not of what convolutions read: int8 takes the
        weights, whose ranges are their own, and is calibrated.
        """
        return not self.quantized and bool(arch.split_ranges(self.state)[1])


@dataclass(frozen=True)
class Engine:
    """One verified ONNX model."""

    proto: ModelProto
    data: bytes
    model: nn.Module  # the torch model that it agrees with
    agreement: dict[str, Agreement]

    @property
    def counts(self) -> dict[str, int]:
        """Nodes by operator."""
        return dict(sorted(Counter(n.op_type for n in self.proto.graph.node).items()))


def read(path: str | os.PathLike[str]) -> Source:
    """Read and fuse a checkpoint. Raises arch.CheckpointError where it is none."""
    state = arch.read_checkpoint(path)
    try:
        given = arch.from_state_dict(state)
    except arch.CheckpointError as error:
        raise arch.CheckpointError(f"{path}: {error}") from None
    try:
        return Source(given, arch.fuse(given), state)
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from error


def quantized_model(source: Source, images: list[Tensor], method: Method = "mse") -> nn.Module:
    """The fake-quantised network: with the checkpoint's own ranges, or equalised and calibrated on LR images."""
    if source.quantized:
        return load_quantized(source.state)
    model = quantize(equalise(source.fused, images))
    calibrate(model, images, method)
    return model


def make(
    model: nn.Module,
    precision: Precision,
    images: list[Tensor],
    *,
    name: str | None = None,
    opset: int = DEFAULT_OPSET,
    static: tuple[int, int] | None = None,
) -> Engine:
    """Export and verify one precision of a fused network (int8: a quantised one) on LR images.

    Raises ExportError where verification fails or an option is out of range.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset is {opset}; allowed are {OPSETS.start} to {OPSETS.stop - 1}.")
    if static:
        images = [fit(i, *static) for i in images]
    proto = to_onnx(model, opset=opset, half=precision == "fp16", static=static)
    set_metadata(proto, metadata(model, precision, bytes_per_pixel(proto), name))
    agreement = verify(proto, model, precision, images, static=static is not None)
    return Engine(proto, serialise(proto), model, agreement)


def metadata(model: nn.Module, precision: Precision, memory: int, name: str | None = None) -> dict[str, str]:
    """The metadata_props that our engines carry."""
    config: Any = model.config
    radius = config.receptive_radius
    return Metadata(
        name=name or short_name(config),
        variant=config.variant,
        scale=config.scale,
        precision=precision,
        receptive_radius=WHOLE_IMAGE if radius is None else radius,
        bytes_per_pixel=memory,
        licence=LICENCE,
    ).props()


def stem(config: Any) -> str:
    """Beginning of the file names of a configuration: aether_small_2x, aether_custom_2x."""
    return f"aether_{short_name(config)}"


def short_name(config: Any) -> str:
    """Engine name of a configuration without its precision: small_2x, custom_2x."""
    return f"{config.variant.removeprefix('aether_')}_{config.scale}x"


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """Cut (1, C, h, w) to a size, repeating the image where it is too small."""
    times = (1, 1, -(-height // image.shape[2]), -(-width // image.shape[3]))
    return image.repeat(times)[:, :, :height, :width].contiguous()


def kept_float(model: nn.Module) -> list[str]:
    """Convolutions of a quantised model that compute in float."""
    return [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and not isinstance(m, QuantConv2d)]


@torch.no_grad()
def run(model: nn.Module, image: Tensor) -> Tensor:
    """The model's output for one image."""
    return model(image)


def folder(path: Path) -> Path:
    """A folder to write to, made where it is missing. Raises ExportError where it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{path}: the folder cannot be made ({error.strerror}).") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ExportError(f"{path}: the folder cannot be written.")
    return path
