"""The line from a network to the bytes of one ONNX file: quantise, graph, verify. `export.source` reads and fuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import ModelProto
from torch import Tensor, nn

from presets.engine import WHOLE_IMAGE, Metadata
from presets.tensorrt import half_around_int8

from .equalise import equalise
from .errors import ExportError
from .graph import DEFAULT_OPSET, OPSETS, set_metadata, to_onnx
from .memory import bytes_per_pixel
from .quantizer import Method, QuantConv2d, calibrate, quantize
from .ranges import load_quantized
from .source import Source
from .verify import Agreement, Precision, serialise, verify

LICENCE = "MIT"


@dataclass(frozen=True)
class BuiltEngine:
    """One verified ONNX model."""

    proto: ModelProto
    data: bytes
    model: nn.Module  # the torch model that it agrees with
    agreement: dict[str, Agreement]

    @property
    def counts(self) -> dict[str, int]:
        """Nodes by operator."""
        return dict(sorted(Counter(n.op_type for n in self.proto.graph.node).items()))


def quantise(source: Source, images: list[Tensor], method: Method = "mse") -> nn.Module:
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
    name: str,
    opset: int = DEFAULT_OPSET,
    static: tuple[int, int] | None = None,
) -> BuiltEngine:
    """Export and verify one precision of a fused network (int8: a quantised one) on LR images.

    name: the engine's, without its precision. Raises ExportError where verification fails or an option is out of range.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset is {opset}; allowed are {OPSETS.start} to {OPSETS.stop - 1}.")
    if static:
        images = [_fit(i, *static) for i in images]
    try:
        proto = to_onnx(model, opset=opset, half=precision == "fp16", static=static)
        set_metadata(proto, metadata(model.config, precision, bytes_per_pixel(proto), name))
        if precision == "int8_fp16":
            proto = onnx.load_model_from_string(half_around_int8(serialise(proto)))
    except ValueError as error:
        raise ExportError(f"{precision}: {error}") from error
    agreement = verify(proto, model, precision, images, static=static is not None)
    return BuiltEngine(proto, serialise(proto), model, agreement)


def metadata(config: Any, precision: Precision, memory: int, name: str) -> dict[str, str]:
    """The metadata_props that our engines carry."""
    radius = config.receptive_radius
    return Metadata(
        name=name,
        variant=config.variant,
        scale=config.scale,
        precision=precision.partition("_")[0],
        receptive_radius=WHOLE_IMAGE if radius is None else radius,
        bytes_per_pixel=memory,
        licence=LICENCE,
    ).props()


def file_name(name: str, precision: Precision) -> str:
    """aether_small_2x_fp16.onnx; of int8 engines the type of what is not int8 stands before it."""
    ending = {"int8": "fp32_int8", "int8_fp16": "fp16_int8"}.get(precision, precision)
    return f"aether_{name}_{ending}.onnx"


def kept_float(model: nn.Module) -> list[str]:
    """Convolutions of a quantised model that compute in float."""
    return [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and not isinstance(m, QuantConv2d)]


def _fit(image: Tensor, height: int, width: int) -> Tensor:
    """Cut (1, C, h, w) to a size, repeating the image where it is too small."""
    times = (1, 1, -(-height // image.shape[2]), -(-width // image.shape[3]))
    return image.repeat(times)[:, :, :height, :width].contiguous()
