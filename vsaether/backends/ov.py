"""Backend ov: Intel's OpenVINO."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import vapoursynth as vs

from presets import int8

from .. import system
from ..engines import Engine
from ..errors import ArgumentError, BackendError
from .base import Common, not_loaded

DEVICES = ("CPU", "GPU", "NPU")


@dataclass(frozen=True)
class OpenVINO(Common):
    """Intel's OpenVINO, on the CPU unless said otherwise.

    device: "CPU", or "GPU" or "NPU" of Intel; `device_id` then counts GPUs.

    All that is not int8 in an engine is computed in float32, also where OpenVINO alone would choose bfloat16. An fp16
    engine is computed in float32 too, from its fp16 weights. On processors without 8-bit dot products (VNNI), where
    OpenVINO's int8 sums saturate, an int8 engine's values are computed in float32 as well: the same picture, not faster
    than the fp32 engine.
    """

    name: ClassVar[str] = "ov"
    fastest: ClassVar[str] = "int8"

    device: str = "CPU"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ArgumentError(f"device is {self.device!r}; it must be one of {', '.join(DEVICES)}")
        if self.device_id != 0 and self.device != "GPU":
            raise ArgumentError(f"device_id is {self.device_id!r}; a CPU backend has only device 0")

    @classmethod
    def unusable(cls) -> str | None:
        if reason := not_loaded("ov", "pip install vapoursynth-mlrt-ov"):
            return reason
        try:
            return None if "CPU" in _devices() else "OpenVINO finds no CPU device"
        except vs.Error as error:
            return str(error)

    @classmethod
    def note(cls, precision: str) -> str | None:
        if precision != "int8" or _openvino_int8():
            return None
        return "int8 is computed in float32 here, as this processor has no 8-bit dot products (VNNI)"

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        if self.device != "CPU":
            return self._run_on(clip, engine)
        model = int8.with_float_weights(engine.model) if self.note(engine.precision) else engine.model
        return _openvino(clip, model, self.num_streams)

    def _run_on(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        found = _devices()
        if not any(name.partition(".")[0] == self.device for name in found):
            raise BackendError(f"OpenVINO finds no {self.device}; it finds {', '.join(found)}; install Intel's driver")
        device = f"{self.device}.{self.device_id}" if self.device_id else self.device
        return _openvino(clip, engine.model, self.num_streams, device, "f16" if engine.precision == "fp16" else "f32")


def _devices() -> list[str]:
    """OpenVINO's names of what it can run on."""
    found = vs.core.ov.AvailableDevices()  # one string, or a list of them
    names = found if isinstance(found, list) else [found]
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def _openvino(clip: vs.VideoNode, model: bytes, streams: int, device: str = "CPU", hint: str = "f32") -> vs.VideoNode:
    config = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": streams}
    with system.signal_stack_restored():
        return vs.core.ov.Model(
            clip,
            network_path=model,
            path_is_serialization=True,
            device=device,
            # What the plugin calls streams are requests. One more than run at a time: the next frame is copied in, and
            # the last one out, while the cores compute.
            num_streams=streams + 1,
            config=lambda: config,
        )


@functools.cache
def _openvino_int8() -> bool:
    """Whether the plugin's OpenVINO computes int8 as such here: exactly."""
    _, _, height, width = int8.SHAPE
    white = vs.core.std.BlankClip(None, width, height, vs.RGBS, length=1, color=[1.0] * 3)
    with _openvino(white, int8.probe(), 1).get_frame(0) as frame:
        return bool(np.allclose(np.asarray(frame[0]), 1, rtol=0, atol=int8.TOLERANCE))
