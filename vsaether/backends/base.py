"""What every backend is."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import vapoursynth as vs

from ..engines import Engine
from ..errors import ArgumentError

NUM_STREAMS = 2
"""Inferences at the same time, if not said otherwise. Two: cores that have nothing to do in the one, at its smallest
layers and between them, work for the other (1.1 times the frames a second on 2 cores)."""

MAX_STREAMS = 1024
"""More than any machine has use for. OpenVINO, asked for billions, aborts the whole process."""


class Backend(Protocol):
    """A way to run engines."""

    name: ClassVar[str]
    fastest: ClassVar[str]
    """The precision that an engine's name without one stands for here: the fastest, as measured or known."""

    @property
    def num_streams(self) -> int:
        """Inferences at the same time."""
        ...

    @property
    def device_id(self) -> int:
        """Number of the device."""
        ...

    @classmethod
    def unusable(cls) -> str | None:
        """Why this backend cannot run on this machine, or None if it can."""
        ...

    @classmethod
    def passed_over(cls) -> str | None:
        """Why "auto" does not take this backend here, or None if it may: unusable, or usable and slow."""
        ...

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        """Why this backend does not run that engine, or None if it does, as far as can be known without running it."""
        ...

    @classmethod
    def note(cls, precision: str) -> str | None:
        """In what other way than one expects an engine of that precision is computed here, or None."""
        ...

    def bytes_per_pixel(self, engine: Engine) -> int:
        """Memory that all frames in work take, per input pixel of one."""
        ...

    def memory(self) -> int | None:
        """Bytes that the frames in work may take together; None where that is the CPU's memory."""
        ...

    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode:
        """RGBS frames in [0, 1] through the engine: RGBS or RGBH frames of scale times the size, not clamped.

        (RGBH, where the engine's output has no more digits. Input may be RGBH too, the output of an earlier pass.)
        """
        ...

    def run_changes(self, clip: vs.VideoNode, engine: Engine, period: int) -> vs.VideoNode:
        """As run, to the same bytes; a frame is likely to differ little from the one ``period`` frames before."""
        ...


@dataclass(frozen=True)
class Common(ABC):
    """What backends do if they have nothing special to say.

    num_streams: inferences at the same time.
    device_id: number of the device, from 0.
    """

    num_streams: int = NUM_STREAMS
    device_id: int = 0

    @classmethod
    def unusable(cls) -> str | None:
        return None

    @classmethod
    def passed_over(cls) -> str | None:
        return cls.unusable()

    @classmethod
    def refusal(cls, engine: Engine) -> str | None:
        return None

    @classmethod
    def note(cls, precision: str) -> str | None:
        return None

    def bytes_per_pixel(self, engine: Engine) -> int:
        return engine.bytes_per_pixel * self.num_streams

    def memory(self) -> int | None:
        return None

    @abstractmethod
    def run(self, clip: vs.VideoNode, engine: Engine) -> vs.VideoNode: ...

    def run_changes(self, clip: vs.VideoNode, engine: Engine, period: int) -> vs.VideoNode:
        return self.run(clip, engine)


@dataclass(frozen=True)
class OnCPU(Common):
    """A backend whose only device is the processor."""

    def __post_init__(self) -> None:
        if self.device_id != 0:
            raise ArgumentError(f"device_id is {self.device_id!r}; a CPU backend has only device 0")


def tried(clip: vs.VideoNode, streams: int, run: Callable[[vs.VideoNode], vs.VideoNode]) -> vs.VideoNode:
    """run(clip), after as many blank pictures before it as run at the same time.

    For plugins that take a device's memory at the first frame: what is wrong is raised now, as vapoursynth.Error, and
    not in the middle of a script. It is the same node that goes on, so nothing is loaded twice.
    """
    blank = clip.std.BlankClip(length=streams, keep=True)
    result = run(blank + clip)
    errors = []
    for frame in [result.get_frame_async(number) for number in range(streams)]:
        try:
            frame.result().close()
        except vs.Error as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return result.std.Trim(streams)


def not_loaded(plugin: str, install: str) -> str | None:
    """Why a backend cannot run whose plugin VapourSynth has not loaded, with what installs it; None where it has."""
    if getattr(vs.core, plugin, None) is not None:
        return None
    return f"the VapourSynth plugin {plugin} is not loaded; {install}"


def refuse_int8(backend: str, engine: Engine, reason: str) -> str | None:
    """The refusal of int8 engines by backends that would not compute int8, with what to take; None for others."""
    if engine.precision != "int8":
        return None
    preset = engine.name.removesuffix("_int8")
    return f"{reason}; take {preset}_fp16 with {backend}, or another backend for int8"
