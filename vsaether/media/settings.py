"""What is asked of one run of the command, and the filter which that makes."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import vapoursynth as vs

import vsaether
from vsaether.engines import Engine
from vsaether.sizing import Sizing

from .encoders import MUXERS, Encoding
from .formats import AS_TAGGED, Layout, TagOverride, Tags
from .graph import FrameUpscaler
from .images import ImageSource
from .info import VideoInfo
from .source import VideoSource
from .span import Moment, Span

_ASIDE = {"decides": False}  # a setting with which the result is the same, or which a job folder tells in other words


@dataclass(frozen=True)
class Job:
    """One run of the command."""

    source: Path = field(metadata=_ASIDE)
    output: Path = field(metadata=_ASIDE)
    engine: str = field(default="small_2x_int8", metadata=_ASIDE)
    backend: str = field(default="auto", metadata=_ASIDE)
    tile: tuple[int, int] | None = None
    num_streams: int = vsaether.backends.NUM_STREAMS
    overlap: tuple[int, int] | None = None
    device_id: int = 0
    tags: TagOverride = AS_TAGGED
    dither: str = "ordered"
    encoding: Encoding = field(default_factory=Encoding)
    rate: Fraction | None = None
    start: Moment | None = None
    end: Moment | None = None
    limit: int | None = None
    """Which frames are wanted (see span.Span)."""
    overwrite: bool = field(default=False, metadata=_ASIDE)
    drop_unsupported: bool = False
    deinterlace: str | None = None
    """Which frames are deinterlaced (see deinterlace.MODES); None: none, fields are upscaled as they are."""
    interlaced: bool = field(default=False, metadata=_ASIDE)
    """Whether frames behind the first ones are known to be interlaced."""
    audio_codec: str | None = None
    """What sound becomes that the container cannot carry as it is; None: a usual codec."""
    pipe: str | None = None
    """The command of an encoder which reads y4m from its standard input, with {out} for its output."""
    width: int | None = None
    height: int | None = None
    scale: Fraction | None = None
    """The result's size, or how many times the source's it is; None: the engine's scale."""
    reuse: bool = field(default=True, metadata=_ASIDE)
    """Whether what repeats is not computed again. The result is the same."""
    segment: Fraction | None = None
    """Seconds of film in a segment at most. None: the usual number, and segments in long films only."""
    resume: bool = field(default=True, metadata=_ASIDE)
    """Whether long films are made in segments, so that a run which was stopped can be gone on with."""
    workers: int | None = field(default=None, metadata=_ASIDE)
    """Processes of this machine which make segments; None: this process alone."""
    scheduler: str | None = field(default=None, metadata=_ASIDE)
    """The address of a scheduler of dask whose workers make the segments, such as tcp://10.0.0.1:8786."""


def settings(job: Job) -> dict[str, Any]:
    """The settings which decide over the result, by name."""
    return {
        each.name: getattr(job, each.name) for each in dataclasses.fields(job) if each.metadata.get("decides", True)
    }


def carried(job: Job, source: VideoSource | ImageSource) -> Callable[[av.VideoFrame], bool]:
    """Of which frames of a source the results must be given side data and flags: each image has its own."""
    if job.output.suffix.lower() in MUXERS and "udu_sei" not in job.encoding.options:
        return source.carries
    return lambda frame: True


def span(job: Job) -> Span:
    """The part of the input that a job asks for."""
    return Span(job.start, job.end, job.limit)


def sizing(job: Job, engine: Engine, info: VideoInfo) -> Sizing:
    """The size that a job asks for."""
    return Sizing(engine.scale, job.width, job.height, job.scale, (2, 4 if info.interlaced else 2))


def upscaling(job: Job) -> Callable[[vs.VideoNode, int, int], vs.VideoNode]:
    """The filter that a job asks for: of a clip, width and height of the result."""
    return lambda clip, width, height: vsaether.upscale(
        clip,
        job.engine,
        backend=job.backend,
        tile=job.tile,
        overlap=job.overlap,
        num_streams=job.num_streams,
        device_id=job.device_id,
        dither_type=job.dither,
        reuse=job.reuse,
        width=width,
        height=height,
    )


class Outlet(Protocol):
    """What takes upscaled frames: of one size, or of none in particular, in the layout and tags it wants."""

    @property
    def size(self) -> tuple[int, int] | None: ...
    @property
    def lends(self) -> bool: ...
    def target(self, layout: Layout, tags: Tags, suffix: str) -> tuple[Layout, Tags]: ...


def frame_upscaler(job: Job, source: VideoSource | ImageSource, wanted: Sizing, outlet: Outlet) -> FrameUpscaler:
    """What upscales the frames of a source for an outlet. It is to be closed."""
    return FrameUpscaler(
        upscaling(job),
        wanted,
        outlet.target,
        job.num_streams + 2,
        outlet.size,
        carried(job, source),
        job.dither,
        outlet.lends,
    )
