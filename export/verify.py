"""Checks that an ONNX model must pass before it becomes a file: structure, and agreement with torch."""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import onnx.checker
import torch
from onnx import ModelProto
from torch import Tensor, nn

from presets import engine
from presets.errors import EngineFileError

from . import runtimes
from .errors import ExportError
from .quantizer import quant_convs

Precision = Literal["fp32", "fp16", "int8", "int8_fp16"]
"""int8_fp16: int8 with float16 around it, which TensorRT computes as it is written."""

# Largest difference to torch, of values in [0, 1]. ONNX Runtime's CPU provider rounds float16 after each node,
# OpenVINO computes float16 files in float32.
TOLERANCE: dict[str, float] = {"fp32": 1e-4, "fp16": 2e-3}
# int8: a value that another order of summation rounds the other way changes codes in all layers behind, so runtimes
# differ from torch by almost as much as rounding itself does. Their distance to the float network must be the same.
INT8_EXCESS = 1.0  # dB that a runtime may be farther from the float network than the fake-quantised torch model
INT8_PSNR = 30.0  # dB, at least, against the fake-quantised torch model; a wrong graph is at 15 to 25
ODD_SIZES = ((1, 33, 35), (2, 32, 47), (3, 37, 32))  # batch, height, width


@dataclass(frozen=True)
class Agreement:
    """How a runtime's output differs from torch's over the checked images: maximum, and PSNR in dB (peak 1)."""

    maximum: float
    psnr: float


def verify(
    proto: ModelProto, model: nn.Module, precision: Precision, images: list[Tensor], *, static: bool = False
) -> dict[str, Agreement]:
    """Compare an ONNX model with the torch model that it was made from, by runtime.

    model: the float32 model (fp32, fp16), or the fake-quantised one (int8). images: (1, C, h, w) in [0, 1].
    static: only images of the given size are run; otherwise odd sizes and batches as well.

    Raises ExportError, naming the runtime and the difference, where the structure is not right or a tolerance
    is passed.
    """
    check_structure(proto, precision)
    inputs = [i.numpy() for i in images]
    if not static:
        inputs += [_tiled(images[0], *size) for size in ODD_SIZES]
    expected = [_torch(model, x) for x in inputs]
    floats = [_torch(unquantised(model), x) for x in inputs] if "int8" in precision else []
    data = serialise(proto)
    found = {}
    for backend in runtimes.BACKENDS:
        try:
            run = runtimes.load(data, backend)
            outputs = [run(x) for x in inputs]
        except Exception as error:  # runtimes raise types of their own
            line = str(error).strip().splitlines()[0]
            raise ExportError(f"{backend} cannot run the {precision} model: {line}") from error
        found[backend] = _compare(outputs, expected, backend, precision)
        if floats:
            _check_noise(outputs, expected, floats, backend)
    return found


def unquantised(model: nn.Module) -> nn.Module:
    """A copy of a fake-quantised model that does not round."""
    model = copy.deepcopy(model)
    for _, conv in quant_convs(model):
        conv.input_quantizer.mode = conv.weight_quantizer.mode = "off"
    return model


def _check_noise(outputs: list[np.ndarray], expected: list[np.ndarray], floats: list[np.ndarray], backend: str) -> None:
    got, wanted = (_psnr(_mean_square(x, floats)) for x in (outputs, expected))
    if got < wanted - INT8_EXCESS:
        raise ExportError(
            f"{backend}: int8 is {got:.1f} dB from the float network, torch's {wanted:.1f}; "
            f"at most {INT8_EXCESS:g} dB less may be."
        )


def _mean_square(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return float(np.mean([np.mean((x - y) ** 2) for x, y in zip(a, b, strict=True)]))


def _psnr(mean_square: float) -> float:
    return math.inf if mean_square == 0 else -10 * math.log10(mean_square)


def _compare(outputs: list[np.ndarray], expected: list[np.ndarray], backend: str, precision: Precision) -> Agreement:
    for got, wanted in zip(outputs, expected, strict=True):
        if got.shape != wanted.shape or not np.isfinite(got).all():
            raise ExportError(f"{backend}: output {got.shape}, finite: {np.isfinite(got).all()}; not {wanted.shape}.")
    maximum = max(float(np.abs(g - w).max()) for g, w in zip(outputs, expected, strict=True))
    psnr = _psnr(_mean_square(outputs, expected))
    if "int8" in precision:
        if psnr < INT8_PSNR:
            raise ExportError(
                f"{backend}: {precision} is {psnr:.1f} dB from torch's; at least {INT8_PSNR:.0f} is needed."
            )
    elif maximum > TOLERANCE[precision]:
        limit = TOLERANCE[precision]
        raise ExportError(f"{backend}: {precision} differs by {maximum:.1e} from torch's; at most {limit:.0e} may be.")
    return Agreement(maximum, psnr)


def check_structure(proto: ModelProto, precision: Precision) -> None:
    """ONNX checker, interface, default domain only, no external data, and the quantisation rules of int8 files.

    Raises ExportError with what is wrong.
    """
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The ONNX checker refuses the model: {str(error).splitlines()[0]}") from error
    graph = proto.graph
    try:
        engine.check_contents(proto)
        engine.check_interface(graph)
    except EngineFileError as error:
        raise ExportError(f"The model {error}.") from None
    counts = Counter(n.op_type for n in graph.node)
    if (counts["QuantizeLinear"] > 0) != ("int8" in precision):
        raise ExportError(f"The {precision} model holds {counts['QuantizeLinear']} QuantizeLinear nodes.")
    tensors = {t.name: t for t in graph.initializer}
    concatenated = {name for node in graph.node if node.op_type == "Concat" for name in node.output}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in concatenated:
            raise ExportError(
                f"{node.name} is behind a Concat, where OpenVINO computes int8 wrongly; keep it in float."
            )
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = tensors[node.input[2]]
            if zero.data_type != onnx.TensorProto.INT8 or onnx.numpy_helper.to_array(zero).any():
                raise ExportError(f"{node.name}: the zero point is not int8 zero.")


def serialise(proto: ModelProto) -> bytes:
    """The bytes of a model: the same for the same model."""
    return proto.SerializeToString(deterministic=True)


def _tiled(image: Tensor, batch: int, height: int, width: int) -> np.ndarray:
    """`batch` different cuts of one image, repeated where it is too small."""
    times = (1, 1, -(-(height + batch) // image.shape[2]), -(-(width + batch) // image.shape[3]))
    image = image.repeat(times)
    cuts = [image[:, :, i : i + height, i : i + width] for i in range(batch)]
    return torch.cat(cuts).contiguous().numpy()


@torch.no_grad()
def _torch(model: nn.Module, x: np.ndarray) -> np.ndarray:
    model.eval()
    return model(torch.from_numpy(x)).numpy()
