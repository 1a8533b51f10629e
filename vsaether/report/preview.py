"""The command ``vsaether preview``: single frames as they are, scaled by bicubic and by an engine, without the film."""

# pyright: reportAttributeAccessIssue=false

import math
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import vapoursynth as vs

import vsaether
from vsaether.errors import MediaError
from vsaether.media.exchange import still
from vsaether.media.files import PendingFolder, check_target
from vsaether.media.formats import AS_TAGGED, TagOverride

from .frames import Frames
from .pictures import Crop, cropped, png, side_by_side, whole

_PART = 160  # pixels of the result a side, of the part that is enlarged
_WIDTH = 480  # pixels of the part when it is enlarged, at least


@dataclass(frozen=True)
class Preview:
    """Which frames, with which engine, and where to.

    ``at`` are times in seconds; none is the middle. ``crop`` is the part shown enlarged, in pixels of the source; None
    is the one in which the result differs most from bicubic scaling.
    """

    source: Path
    at: Sequence[Fraction] = ()
    output: Path = Path("preview")
    engine: str = "small_2x_int8"
    backend: str = "auto"
    tile: tuple[int, int] | None = None
    overlap: tuple[int, int] | None = None
    device_id: int = 0
    dither: str = "ordered"
    tags: TagOverride = AS_TAGGED
    crop: Crop | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Previewed:
    """The pictures that were written."""

    pictures: list[Path]

    def __str__(self) -> str:
        return "\n".join(map(str, self.pictures))


def make_previews(job: Preview) -> Previewed:
    """Write four PNGs a frame.

    Raises MediaError where a time is behind the end, the crop does not fit, or a file is in the way, before anything
    is written; vapoursynth.Error where the filter refuses.
    """
    if not job.source.exists():
        raise MediaError(f"{job.source} does not exist")
    check_target(job.output, job.source, job.overwrite, folder=True)
    with ExitStack() as stack:
        frames = stack.enter_context(closing(Frames(job.source, job.tags)))
        if job.at and len(frames) == 1:
            raise MediaError(f"{job.source} is one picture; leave --at out")
        numbers = sorted({frames.number(time) for time in job.at}) or [len(frames) // 2]
        pending = stack.enter_context(PendingFolder(job.output, job.overwrite, [job.source]))
        written = []
        for number in numbers:
            name = f"{job.source.stem}_{number:06d}" if len(frames) > 1 else job.source.stem
            for kind, data in _pictures(frames.frame(number), job).items():
                pending.add(f"{name}_{kind}.png", data)
                written.append(job.output / f"{name}_{kind}.png")
        pending.commit()
    return Previewed(written)


def _pictures(frame: av.VideoFrame, job: Preview) -> dict[str, bytes]:
    """PNGs of a frame by what they show."""
    given = still(frame)
    engine = vsaether.engines.resolve(job.engine)
    scale = engine.scale
    size = frame.width * scale, frame.height * scale
    upscaled = vsaether.upscale(
        given,
        job.engine,
        backend=job.backend,
        tile=job.tile,
        overlap=job.overlap,
        device_id=job.device_id,
        dither_type=job.dither,
    )
    large = cropped(upscaled, *size)
    source = whole(frame)
    bicubic = source.resize.Bicubic(*size)
    crop = _most_changed(bicubic, large, _PART) if job.crop is None else _fitting(job.crop, frame, scale)
    labels = ["source", "bicubic", f"AetherNet {engine.name}"]
    detail = side_by_side([source, bicubic, large], labels, crop, math.ceil(_WIDTH / max(crop[2:])))
    return {"source": png(source), "bicubic": png(bicubic), "result": png(large), "detail": png(detail)}


def _fitting(crop: Crop, frame: av.VideoFrame, scale: int) -> Crop:
    """A crop of the source as one of the result. Raises MediaError where it reaches beyond the picture."""
    left, top, width, height = crop
    if left + width > frame.width or top + height > frame.height:
        raise MediaError(
            f"the crop {width}x{height}+{left}+{top} reaches beyond the picture, which is {frame.width}x{frame.height}"
        )
    return left * scale, top * scale, width * scale, height * scale


def _most_changed(before: vs.VideoNode, after: vs.VideoNode, part: int) -> Crop:
    """The square of at most ``part`` pixels a side in which two clips' first frames differ most."""
    sides = []
    for clip in (before, after):
        with clip.resize.Bicubic(format=vs.RGB24).get_frame(0) as frame:
            sides.append(np.asarray(frame[1]).astype(np.int64))  # green: most of the luma
    total = np.zeros((after.height + 1, after.width + 1), np.int64)
    total[1:, 1:] = np.abs(sides[0] - sides[1]).cumsum(0).cumsum(1)
    height, width = min(part, after.height), min(part, after.width)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(left), int(top), width, height
