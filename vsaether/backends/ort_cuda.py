"""Backend ort_cuda: ONNX Runtime's CUDA provider, on NVIDIA cards."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import functools
from dataclasses import dataclass
from typing import ClassVar

import vapoursynth as vs

from presets import int8

from ..engines import Engine
from .base import Common, not_loaded, refuse_int8, tried
from .half import as_float, as_half, half_ends

INSTALL = "pip install vapoursynth-mlrt-ort-cuda"
REMEDIES = {
    "libonnxruntime_providers_cuda": f"; {INSTALL}",
    "CUDA driver version is insufficient": "; install NVIDIA's driver, 580 or later",
}
"""By words of the plugin's error."""


@dataclass(frozen=True)
class OrtCUDA(Common):
    """ONNX Runtime on an NVIDIA card, through CUDA and cuDNN: no engine has to be built.

    fp16 and fp32 engines; the provider has no int8 convolution and would compute in float32 on the CPU and the card in
    turns, so int8 is refused. TF32 is off: fp32 is computed as float32. Frames of fp16 engines are copied to the card
    and back in half precision.
    """

    name: ClassVar[str] = "ort_cuda"
    fastest: ClassVar[str] = "fp16"

    @classmethod
    def unusable(cls) -> str | None:
        return not_loaded("ort", INSTALL) or _probe()

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        return refuse_int8(cls.name, engine, "ONNX Runtime's CUDA provider has no int8 convolution")

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        half = half_ends(engine.model)
        frames = as_half(clip) if half else as_float(clip)
        return tried(frames, self.num_streams, lambda each: self.load(each, half or engine.model))

    def load(self, clip: vs.VideoNode, model: bytes) -> vs.VideoNode:
        """The plugin's frames. Memory for what is between input and output is first taken at a frame."""
        return _model(clip, model, self.device_id, self.num_streams)


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
        remedy = next((remedy for words, remedy in REMEDIES.items() if words in reason), "")
        return f"{reason[:300]}{remedy}"
    return None
