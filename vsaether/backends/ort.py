"""Backend ort: ONNX Runtime on the CPU."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from dataclasses import dataclass
from typing import ClassVar

import vapoursynth as vs

from ..engines import Engine
from .base import OnCPU, not_loaded


@dataclass(frozen=True)
class OnnxRuntime(OnCPU):
    """ONNX Runtime on the CPU: the reference. It runs every engine; int8 ones are slow on it."""

    name: ClassVar[str] = "ort"
    fastest: ClassVar[str] = "fp32"

    @classmethod
    def unusable(cls) -> str | None:
        if reason := not_loaded("ort", "pip install vapoursynth-mlrt-ort"):
            return reason
        try:
            vs.core.ort.Version()
        except vs.Error as error:
            return str(error)
        return None

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        return vs.core.ort.Model(
            clip,
            network_path=engine.model,
            path_is_serialization=True,
            provider="",
            num_streams=self.num_streams,
        )
