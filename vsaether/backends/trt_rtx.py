"""Backend trt_rtx: NVIDIA's TensorRT for RTX."""

from dataclasses import dataclass
from typing import ClassVar

from .trt import TensorRT


@dataclass(frozen=True)
class TensorRTRTX(TensorRT):
    """TensorRT for RTX 1.7, on RTX cards: it builds in a second, and compiles for the card when a script starts.

    fp16 and fp32 engines; int8 where it is asked for by name: every int8 convolution writes float32 there, and
    depthwise ones are padded to four times the channels (its own layer list for small_2x at 1080p: 245 GB of traffic
    a frame, against 93 GB in fp16).
    """

    name: ClassVar[str] = "trt_rtx"
    fastest: ClassVar[str] = "fp16"
    modules: ClassVar[tuple[str, ...]] = ("tensorrt_rtx", "tensorrt_rtx_bindings")
    install: ClassVar[str] = "pip install vapoursynth-mlrt-trt-rtx tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings"

    @classmethod
    def note(cls, precision: str) -> str | None:
        if note := super().note(precision):
            return f"{note}; int8 moves more memory than fp16 in TensorRT for RTX, so take fp16"
        return None
