"""Backends: what runs an engine on frames. One small frozen dataclass each, behind one interface."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import functools
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar, Protocol

import numpy as np
import vapoursynth as vs

from presets import int8

from .engines import Engine
from .errors import ArgumentError, BackendError
from .native_backend import Native

NUM_STREAMS = 2
"""Inferences at the same time, if not said otherwise. Two: cores that have nothing to do in the one, at its smallest
layers and between them, work for the other (1.1 times the frames a second on 2 cores)."""

MAX_STREAMS = 1024
"""More than any machine has use for. OpenVINO, asked for billions, aborts the whole process."""


class Backend(Protocol):
    """A way to run engines."""

    name: ClassVar[str]

    @classmethod
    def unusable(cls) -> str | None:
        """Why this backend cannot run on this machine, or None if it can."""
        ...

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        """Why this backend does not run that engine, or None if it does, as far as can be known without running it."""
        ...

    @classmethod
    def remark(cls, precision: str) -> str | None:
        """In what other way than it says an engine of that precision is computed here, or None if as it says."""
        ...

    def bytes_per_pixel(self, engine: Engine) -> int:
        """Memory that all frames in work take, per input pixel of one."""
        ...

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        """RGBS frames in [0, 1] through the engine: RGBS frames of scale times the size, not clamped."""
        ...


@dataclass(frozen=True)
class _OnCPU:
    num_streams: int = NUM_STREAMS
    device_id: int = 0

    def __post_init__(self) -> None:
        if self.device_id != 0:
            raise ArgumentError(f"device_id is {self.device_id!r}; a CPU backend has only device 0")

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        return None

    def bytes_per_pixel(self, engine: Engine) -> int:
        return engine.bytes_per_pixel * self.num_streams


@dataclass(frozen=True)
class OpenVINO(_OnCPU):
    """Intel's OpenVINO on the CPU.

    All that is not int8 in an engine is computed in float32, also where OpenVINO alone would choose bfloat16. An fp16
    engine is computed in float32 too, from its fp16 weights. On processors without 8-bit dot products (VNNI), where
    OpenVINO's int8 sums saturate, an int8 engine's values are computed in float32 as well: the same picture, not faster
    than the fp32 engine.
    """

    name: ClassVar[str] = "ov"

    @classmethod
    def unusable(cls) -> str | None:
        plugin = getattr(vs.core, "ov", None)
        if plugin is None:
            return "the VapourSynth plugin ov is not loaded; install vapoursynth-mlrt-ov"
        try:
            devices = plugin.AvailableDevices()  # one string, or a list of them
        except vs.Error as error:
            return str(error)
        return None if "CPU" in devices else "OpenVINO finds no CPU device"

    @classmethod
    def remark(cls, precision: str) -> str | None:
        if precision != "int8" or _openvino_int8():
            return None
        return "int8 is computed in float32 here, as this processor has no 8-bit dot products (VNNI)"

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        model = int8.with_float_weights(engine.model) if self.remark(engine.precision) else engine.model
        return _openvino(clip, model, self.num_streams)


def _openvino(clip: vs.VideoNode, model: bytes, streams: int) -> vs.VideoNode:
    config = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": streams}
    return vs.core.ov.Model(
        clip,
        network_path=model,
        path_is_serialization=True,
        device="CPU",
        # What the plugin calls streams are requests. One more than run at a time: the next frame is copied in, and the
        # last one out, while the cores compute.
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


@dataclass(frozen=True)
class OnnxRuntime(_OnCPU):
    """ONNX Runtime on the CPU: the reference. It runs every engine; int8 ones are slow on it."""

    name: ClassVar[str] = "ort"

    @classmethod
    def unusable(cls) -> str | None:
        plugin = getattr(vs.core, "ort", None)
        if plugin is None:
            return "the VapourSynth plugin ort is not loaded; install vapoursynth-mlrt-ort"
        try:
            plugin.Version()
        except vs.Error as error:
            return str(error)
        return None

    @classmethod
    def remark(cls, precision: str) -> str | None:
        return None

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        return vs.core.ort.Model(
            clip,
            network_path=engine.model,
            path_is_serialization=True,
            provider="",
            num_streams=self.num_streams,
        )


BACKENDS: dict[str, type[Native] | type[OpenVINO] | type[OnnxRuntime]] = {
    cls.name: cls for cls in (Native, OpenVINO, OnnxRuntime)
}
"""Every backend by name, the fastest first: the order in which "auto" tries them."""


def probe() -> dict[str, str | None]:
    """Every backend's name -> None if it can run here, or else why not."""
    return {name: cls.unusable() for name, cls in BACKENDS.items()}


def create(name: str, engine: Engine | None = None, *, num_streams: int = NUM_STREAMS, device_id: int = 0) -> Backend:
    """The backend of that name, or for "auto" the first which can run that engine here.

    Raises BackendError if there is none, or ArgumentError if it cannot be used with these arguments.
    """
    if not isinstance(num_streams, Integral) or not 1 <= num_streams <= MAX_STREAMS:
        raise ArgumentError(f"num_streams is {num_streams!r}; it must be a whole number from 1 to {MAX_STREAMS}")
    if name not in ("auto", *BACKENDS):
        raise BackendError(f"there is no backend {name!r}; backends: auto, {', '.join(BACKENDS)}")
    reasons = []
    for cls in BACKENDS.values() if name == "auto" else [BACKENDS[name]]:
        reason = cls.unusable() or (cls.refusal(engine) if engine else None)
        if reason is None:
            return cls(num_streams=int(num_streams), device_id=device_id)
        reasons.append(f"{cls.name}: {reason}")
    raise BackendError(f"no backend can be used ({'; '.join(reasons)})")
