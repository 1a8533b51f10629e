"""What is asked of one run of the command, and the filter which that makes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import vapoursynth as vs

import vsaether

from .encoders import Encoding


@dataclass(frozen=True)
class Job:
    """One run of the command."""

    source: Path
    output: Path
    engine: str = "small_2x_int8"
    backend: str = "auto"
    tile: tuple[int, int] | None = None
    num_streams: int = vsaether.backends.NUM_STREAMS
    encoding: Encoding = field(default_factory=Encoding)
    rate: Fraction | None = None
    limit: int | None = None
    overwrite: bool = False
    drop_unsupported: bool = False


def upscaling(job: Job) -> Callable[[vs.VideoNode], vs.VideoNode]:
    """The filter that a job asks for."""
    return lambda clip: vsaether.upscale(
        clip, job.engine, backend=job.backend, tile=job.tile, num_streams=job.num_streams
    )
