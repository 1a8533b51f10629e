"""The command ``vsaether compare``: two videos, or images, on one page that needs no other file and no network."""

# pyright: reportAttributeAccessIssue=false

import base64
import html
import json
import math
import string
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import vapoursynth as vs

from vsaether.errors import MediaError
from vsaether.media import progress
from vsaether.media.files import PendingFile, check_target
from vsaether.media.formats import AS_TAGGED, TagOverride

from .frames import Frames
from .metrics import METRICS, Meter, is_hdr, mean
from .pictures import png, whole

_MIB = 1 << 20


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where the page goes.

    ``b`` is measured against ``a``, or both against ``reference``. ``frames`` of each are measured, evenly spread;
    the page takes at most ``limit`` MiB, by showing fewer of them.
    """

    a: Path
    b: Path
    reference: Path | None = None
    output: Path = Path("compare.html")
    frames: int = 24
    limit: int = 100
    resize: bool = False
    overwrite: bool = False
    tags: TagOverride = AS_TAGGED
    """What is right where the files' own tags are wrong."""


@dataclass(frozen=True)
class Compared:
    """What was compared: ``frames`` of ``count``, all of one size, against a file; the means of the metrics by file."""

    output: Path
    frames: int
    count: int
    size: tuple[int, int]
    against: str
    means: dict[str, dict[str, float | None]]
    """None stands for an infinite one: nothing differs."""

    def __str__(self) -> str:
        lines = {"frames": f"{self.frames} of {self.count}, evenly spread, {self.size[0]}x{self.size[1]}"}
        for path, values in self.means.items():
            told = []
            for metric in METRICS:
                if metric.key in values:
                    value = math.inf if (found := values[metric.key]) is None else found
                    told.append(f"{metric.name} {value:.{metric.digits}f} {metric.unit}".strip())
            lines[path] = ", ".join(told)
        lines |= {"against": self.against, "output": str(self.output)}
        width = max(12, *(len(name) + 2 for name in lines))
        return "\n".join(f"{name:<{width}}{value}" for name, value in lines.items())


@dataclass
class _Shown:
    """The pictures on the page. When they take too much, every second frame's are given up."""

    limit: int
    stride: int = 1
    size: int = 0
    pictures: dict[int, list[str]] = field(default_factory=dict)
    """By the place of the frame among those measured: one PNG in Base64 for each side."""

    def add(self, place: int, clips: Sequence[vs.VideoNode]) -> None:
        if place % self.stride:
            return
        self.pictures[place] = [base64.b64encode(png(clip)).decode("ascii") for clip in clips]
        self.size = sum(len(text) for each in self.pictures.values() for text in each)
        while self.size > self.limit and len(self.pictures) > 1:
            self.stride *= 2
            self.pictures = {at: each for at, each in self.pictures.items() if at % self.stride == 0}
            self.size = sum(len(text) for each in self.pictures.values() for text in each)
        if self.size > self.limit:
            need = math.ceil(self.size / _MIB)
            raise MediaError(f"one frame of each alone takes {need} MiB; allow that with --max-size {need}")


def make_page(job: Comparison, notice: Callable[[str], None]) -> Compared:
    """Write the page; what deserves mention before is told to ``notice``.

    Raises MediaError where a file cannot be read, the sizes differ without ``resize``, or the page cannot be written.
    """
    paths = [job.a, job.b, *([job.reference] if job.reference else [])]
    if job.output.suffix.lower() not in (".html", ".htm"):
        raise MediaError(f"{job.output}: the page is an .html file; give it such a name")
    for path in paths:
        if not path.exists():
            raise MediaError(f"{path} does not exist")
        check_target(job.output, path, job.overwrite)
    with ExitStack() as stack:
        sides = []
        for path in paths:
            sides.append(Frames(path, job.tags))
            stack.callback(sides[-1].close)
        count = min(map(len, sides))
        if len({*map(len, sides)}) > 1:
            told = ", ".join(f"{side.path} has {len(side)}" for side in sides)
            notice(f"the numbers of frames differ ({told}): the first {count} are compared, number by number")
        numbers = spread(count, job.frames)
        examples = [whole(side.frame(numbers[0])) for side in sides]
        size = _size(paths, examples, job.resize)
        if len({(clip.width, clip.height) for clip in examples}) > 1:
            notice(f"the sizes differ: all are shown and measured at {size[0]}x{size[1]}, enlarged by bicubic scaling")
        meter = Meter([_sized(clip, size) for clip in examples])
        pending = stack.enter_context(PendingFile(job.output, job.overwrite))
        shown = _Shown(job.limit * _MIB)
        measured = []
        bar = stack.enter_context(progress.bar(len(numbers)))
        for place, number in enumerate(numbers):
            given = examples if not place else [whole(side.frame(number)) for side in sides]
            clips = [_sized(clip, size) for clip in given]
            others = clips[:2] if job.reference else clips[1:2]
            measured.append([meter.measure(clips[-1] if job.reference else clips[0], clip) for clip in others])
            shown.add(place, clips)
            bar.update()
        if len(shown.pictures) < len(numbers):
            notice(
                f"{len(shown.pictures)} of the {len(numbers)} measured frames are shown, for the page to stay below "
                f"{job.limit} MiB; --max-size allows more"
            )
        means = {
            str(path): {
                metric.key: _finite(mean([each[side][metric.key] for each in measured])) for metric in meter.metrics
            }
            for side, path in enumerate(paths[:2] if job.reference else paths[1:])
        }
        data = {
            "sides": [_describe(name, side, clip) for name, side, clip in zip("ABR", sides, examples, strict=False)],
            "size": size,
            "count": count,
            "hdr": is_hdr(examples[0]),
            "format": meter.format.name,
            "metrics": [vars(metric) for metric in meter.metrics],
            "frames": [
                {
                    "number": number,
                    "time": None if (time := sides[0].time(number)) is None else float(time),
                    "metrics": [{key: _finite(value) for key, value in each.items()} for each in found],
                    "shown": place in shown.pictures,
                }
                for place, (number, found) in enumerate(zip(numbers, measured, strict=True))
            ],
            "means": list(means.values()),
        }
        pending.path.write_text(_page(data, shown.pictures), encoding="utf-8")
        pending.commit()
    return Compared(job.output, len(numbers), count, size, str(paths[-1] if job.reference else job.a), means)


def spread(count: int, wanted: int) -> list[int]:
    """The numbers of at most ``wanted`` of ``count`` frames: the middles of parts of equal length."""
    wanted = min(count, wanted)
    return [(2 * part + 1) * count // (2 * wanted) for part in range(wanted)]


def _size(paths: Sequence[Path], clips: Sequence[vs.VideoNode], resize: bool) -> tuple[int, int]:
    """The size at which all are compared: that of the largest."""
    largest = max(clips, key=lambda clip: clip.width * clip.height)
    size = largest.width, largest.height
    told = ", ".join(f"{path} is {clip.width}x{clip.height}" for path, clip in zip(paths, clips, strict=True))
    if not resize and any((clip.width, clip.height) != size for clip in clips):
        raise MediaError(f"the sizes differ ({told}); --resize enlarges the smaller by bicubic scaling")
    if any(abs(clip.width * size[1] - clip.height * size[0]) > 0.02 * clip.height * size[1] for clip in clips):
        raise MediaError(f"the shapes differ ({told}); crop them to the same picture first")
    return size


def _sized(clip: vs.VideoNode, size: tuple[int, int]) -> vs.VideoNode:
    return clip if (clip.width, clip.height) == size else clip.resize.Bicubic(*size)


def _describe(name: str, side: Frames, clip: vs.VideoNode) -> dict[str, Any]:
    return {
        "key": name,
        "name": side.path.name,
        "size": [clip.width, clip.height],
        "format": clip.format.name,
        "bytes": side.path.stat().st_size,
        "frames": len(side),
        "codec": side.codec,
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity: None stands for it."""
    return round(value, 6) if math.isfinite(value) else None


def _page(data: dict[str, Any], pictures: dict[int, list[str]]) -> str:
    folder = files("vsaether.report") / "data"
    parts = {name: (folder / f"compare.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    scripts = [
        f'<script type="text/plain" id="picture-{place}-{side}">{text}</script>'
        for place, each in pictures.items()
        for side, text in enumerate(each)
    ]
    return string.Template(parts["html"]).substitute(
        title=html.escape(" / ".join(side["name"] for side in data["sides"][:2])),
        style=parts["css"],
        script=parts["js"],
        data=json.dumps(data).replace("<", "\\u003c"),  # a file's name may hold the end of a script
        pictures="\n".join(scripts),
    )
