"""Backend ort_cuda: ONNX Runtime's CUDA provider, on NVIDIA cards."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import functools
from dataclasses import dataclass
from typing import ClassVar

import vapoursynth as vs

from presets import int8

from ..engines import Engine
from .base import Common, refuse_int8

INSTALL = "pip install vapoursynth-mlrt-ort-cuda"


@dataclass(frozen=True)
class OrtCUDA(Common):
    """ONNX Runtime on an NVIDIA card, through CUDA and cuDNN: no engine has to be built.

    fp16 and fp32 engines; the provider has no int8 convolution and would compute in float32 on the CPU and the card in
    turns, so int8 is refused. TF32 is off: fp32 is computed as float32.
    """

    name: ClassVar[str] = "ort_cuda"
    fastest: ClassVar[str] = "fp16"

    @classmethod
    def unusable(cls) -> str | None:
        if getattr(vs.core, "ort", None) is None:
            return f"the VapourSynth plugin ort is not loaded; {INSTALL}"
        return _probe()

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        return refuse_int8(cls.name, engine, "ONNX Runtime's CUDA provider has no int8 convolution")

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        return _model(clip, engine.model, self.device_id, self.num_streams)


def _model(clip: vs.VideoNode, model: bytes, device_id: int, streams: int) -> vs.VideoNode:
    return vs.core.ort.Model(
        clip,
        network_path=model,
        path_is_serialization=True,
        provider="CUDA",
        device_id=device_id,
        num_streams=streams,
        cudnn_benchmark=True,
        tf32=False,
    )


@functools.cache
def _probe() -> str | None:
    """The plugin names CUDA among its providers also where it has none: only a model tells."""
    _, _, height, width = int8.SHAPE
    clip = vs.core.std.BlankClip(None, width, height, vs.RGBS, length=1)
    try:
        _model(clip, int8.with_float_weights(int8.probe()), 0, 1).get_frame(0).close()
    except vs.Error as error:
        reason = " ".join(str(error).split())
        missing = "libonnxruntime_providers_cuda" in reason
        return f"{reason[:300]}{f'; {INSTALL}' if missing else ''}"
    return None
