"""Backends: what runs an engine on frames. One small frozen dataclass each, behind one interface."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from dataclasses import dataclass
from typing import ClassVar, Protocol

import vapoursynth as vs

from .engines import Engine
from .errors import ArgumentError, BackendError


class Backend(Protocol):
    """A way to run engines."""

    name: ClassVar[str]

    @classmethod
    def unusable(cls) -> str | None:
        """Why this backend cannot run on this machine, or None if it can."""
        ...

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        """RGBS frames in [0, 1] through the engine: RGBS frames of scale times the size, not clamped."""
        ...


@dataclass(frozen=True)
class _OnCPU:
    num_streams: int = 1
    device_id: int = 0

    def __post_init__(self) -> None:
        if self.device_id != 0:
            raise ArgumentError(f"device_id is {self.device_id}; a CPU backend has only device 0")


@dataclass(frozen=True)
class OpenVINO(_OnCPU):
    """Intel's OpenVINO on the CPU: the fast one for int8 engines.

    All that is not int8 in an engine is computed in float32, also where OpenVINO alone would choose bfloat16. An fp16
    engine is computed in float32 too, from its fp16 weights.
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

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        config: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32"}
        if self.num_streams > 1:  # OpenVINO's own default is the one stream with the shortest latency
            config["NUM_STREAMS"] = self.num_streams
        return vs.core.ov.Model(
            clip,
            network_path=engine.model,
            path_is_serialization=True,
            device="CPU",
            # What the plugin calls streams are requests. One more than run at a time: the next frame is copied in, and
            # the last one out, while the cores compute.
            num_streams=self.num_streams + 1,
            config=lambda: config,
        )


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

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        return vs.core.ort.Model(
            clip,
            network_path=engine.model,
            path_is_serialization=True,
            provider="",
            num_streams=self.num_streams,
        )


BACKENDS: dict[str, type[OpenVINO] | type[OnnxRuntime]] = {cls.name: cls for cls in (OpenVINO, OnnxRuntime)}
"""Every backend by name, the fastest first: the order in which "auto" tries them."""


def probe() -> dict[str, str | None]:
    """Every backend's name -> None if it can run here, or else why not."""
    return {name: cls.unusable() for name, cls in BACKENDS.items()}


def create(name: str, *, num_streams: int = 1, device_id: int = 0) -> Backend:
    """The backend of that name, or for "auto" the first which can run here.

    Raises BackendError if there is none, or if it cannot be used with these arguments.
    """
    if num_streams < 1:
        raise ArgumentError(f"num_streams is {num_streams}; it must be at least 1")
    if name != "auto" and name not in BACKENDS:
        raise BackendError(f"there is no backend {name!r}; backends: auto, {', '.join(BACKENDS)}")
    reasons = []
    for cls in BACKENDS.values() if name == "auto" else [BACKENDS[name]]:
        reason = cls.unusable()
        if reason is None:
            return cls(num_streams=num_streams, device_id=device_id)
        reasons.append(f"{cls.name}: {reason}")
    raise BackendError(f"no backend can be used ({'; '.join(reasons)})")
