"""The command ``vsaether demo``: the bundled clip upscaled, and a picture that compares it with bicubic scaling."""

# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import vsaether
from vsaether.media.exchange import still
from vsaether.media.files import PendingFolder
from vsaether.media.job import Summary
from vsaether.media.job import run as upscale
from vsaether.media.settings import Job

from .frames import Frames
from .pictures import png, side_by_side

CLIP = "big_buck_bunny_240p.mp4"
_FRAME = 95
_CROP = (92, 0, 120, 90)  # left, top, width, height in pixels of the source
_ZOOM = 3


def make_demo(folder: Path, engine: str, limit: int | None, notice: Callable[[str], None]) -> Summary:
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
    with closing(Frames(path)) as frames:
        small = still(frames.frame(_FRAME))
    large = vsaether.upscale(small, engine)
    left, top, width, height = (value * large.width // small.width for value in _CROP)
    sides = [small.resize.Bicubic(large.width, large.height), large]
    return png(side_by_side(sides, ["bicubic", f"AetherNet {engine}"], (left, top, width, height), _ZOOM))
