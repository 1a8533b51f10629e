"""The command ``vsaether demo``: the bundled clip upscaled, and a picture that compares it with bicubic scaling."""

# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import av
import vapoursynth as vs

import vsaether
from vsaether.media.files import PendingFolder
from vsaether.media.graph import still, to_rgb24
from vsaether.media.images import encode
from vsaether.media.job import Job, Summary
from vsaether.media.job import run as upscale

CLIP = "big_buck_bunny_240p.mp4"
_FRAME = 95
_CROP = (92, 0, 120, 90)  # left, top, width, height in pixels of the source
_ZOOM = 3


def run(folder: Path, engine: str, limit: int | None, notice: Callable[[str], None]) -> Summary:
    """Write the video and ``comparison.png`` into a folder, replacing what an earlier demo left there."""
    folder.mkdir(parents=True, exist_ok=True)
    with bundled_clip() as clip:
        job = Job(clip, folder / "big_buck_bunny_upscaled.mp4", engine, limit=limit, overwrite=True)
        summary = upscale(job, notice)
        picture = folder / "comparison.png"
        with PendingFolder(folder, overwrite=True) as pending:
            pending.add(picture.name, compare(clip, engine))
            pending.commit()
    return summary.also(picture)


@contextmanager
def bundled_clip() -> Iterator[Path]:
    """The path of the bundled clip."""
    with as_file(files("vsaether.report") / "data" / CLIP) as path:
        yield path


def compare(path: Path, engine: str) -> bytes:
    """A PNG of a detail of one frame, enlarged: bicubic scaling on the left, the engine's result on the right."""
    with av.open(str(path)) as container:
        frame = next(frame for number, frame in enumerate(container.decode(video=0)) if number == _FRAME)
    small = still(frame)
    large = vsaether.upscale(small, engine)
    bicubic = small.resize.Bicubic(large.width, large.height)
    sides = [_detail(bicubic, small.width, "bicubic"), _detail(large, small.width, f"AetherNet {engine}")]
    with vs.core.std.StackHorizontal(sides).get_frame(0) as result:
        return encode(to_rgb24(result), ".png")[0]


def _detail(clip: vs.VideoNode, source_width: int, label: str) -> vs.VideoNode:
    scale = clip.width // source_width
    left, top, width, height = (value * scale for value in _CROP)
    rgb = clip.resize.Bicubic(format=vs.RGB24).std.CropAbs(width, height, left, top)
    return rgb.resize.Point(width * _ZOOM, height * _ZOOM).text.Text(label, alignment=7, scale=2)
