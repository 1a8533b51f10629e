"""From a checkpoint to verified engine files: fuse, quantise, export to ONNX (`python -m export.build`).

import export

export.build(checkpoint, folder)              # every file of a network, and the report on them
export.export_onnx(checkpoint, file)          # one file
model = export.quantize(arch.fuse(network))   # fake quantisation, to be calibrated or trained
export.calibrate(model, batches)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .build import build

if TYPE_CHECKING:
    from .onnx import export_onnx
    from .quantizer import calibrate, quantize

__all__ = ["build", "calibrate", "export_onnx", "quantize"]


def __getattr__(name: str) -> Any:
    """The other functions, whose modules import torch, or are commands."""
    if name == "export_onnx":
        from .onnx import export_onnx

        return export_onnx
    if name in ("calibrate", "quantize"):
        from . import quantizer

        return getattr(quantizer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
