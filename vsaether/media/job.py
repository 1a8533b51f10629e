"""The command ``vsaether upscale``: what is read, what is written, and the loop between them."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av

import vsaether
from vsaether.backends import Backend
from vsaether.engines import Engine
from vsaether.errors import MediaError
from vsaether.reuse import ReuseMeter
from vsaether.sizing import Sizing

from . import combs, encoders, pipe, progress, resume
from .changes import Changes
from .encoders import MUXERS, Encoding
from .files import PendingFile, PendingFolder, check_target
from .graph import FrameUpscaler
from .images import SUFFIXES, ImageSource, ImageWriter
from .manifest import JobFolder
from .muxer import VideoWriter
from .pipe import PipeWriter
from .reading import Reader
from .segments import open_source
from .settings import Job, frame_upscaler, sizing, span
from .source import VideoSource
from .stills import NAMED, is_still, list_images, listed
from .survey import later_interlaced

_PATTERN = re.compile(r"%0?\d*d")
_IMAGE_RATE = Fraction(24)


@dataclass(frozen=True)
class Summary:
    """What was done."""

    engine: str
    precision: str
    backend: str
    frames: int
    seconds: float
    size: tuple[int, int]
    source: Path
    output: Path
    missing: int = 0
    failure: str | None = None
    """What of it could not be done."""
    comparison: Path | None = None
    before: int = 0
    """How many of the frames were there already, of a run which had been stopped."""
    reused: float | None = None
    """The share of pixels which needed no computation, as they repeated; None if that is not known."""

    def also(self, comparison: Path) -> "Summary":
        """The same with one more file."""
        return dataclasses.replace(self, comparison=comparison)

    def __str__(self) -> str:
        width, height = self.size
        fps = (self.frames - self.before) / self.seconds if self.seconds else 0.0
        early = f", {self.before} of them done before" if self.before else ""
        early += f"; the input ends early: {self.frames} of {self.frames + self.missing} frames" if self.missing else ""
        lines = {
            "engine": self.engine,
            "precision": self.precision,
            "backend": self.backend,
            "frames": f"{self.frames} of {width}x{height}{early}",
            "speed": f"{fps:.2f} fps, {self.seconds:.1f} s",
            **({} if self.reused is None else {"reused": f"{self.reused:.0%} of the pixels"}),
            "input": self.source,
            "output": self.output,
            **({"failed": self.failure} if self.failure else {}),
            **({"comparison": self.comparison} if self.comparison else {}),
        }
        return "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def run(job: Job, notice: Callable[[str], None]) -> Summary:
    """Do a job; what cannot be kept is told to ``notice``. The output appears only when it is complete.

    Raises MediaError, or vapoursynth.Error where the filter refuses.
    """
    if str(job.source) == "-":
        raise MediaError("- is not a file; to read from standard input, give /dev/stdin")
    if not job.source.exists():
        raise MediaError(f"{job.source} does not exist")
    JobFolder.of(job.output).tidy(job.output)
    backend, engine = vsaether.backends.select(
        job.backend, job.engine, num_streams=job.num_streams, device_id=job.device_id
    )
    meter = ReuseMeter()
    with ExitStack() as stack:
        source = _source(job)
        stack.callback(source.close)
        if isinstance(source, VideoSource) and _later_interlaced(job, source):
            job = dataclasses.replace(job, interlaced=True)
            source = open_source(job)
            stack.callback(source.close)
        if isinstance(source, VideoSource) and not job.deinterlace:
            for text in combs.notes(source.path, source.stream.index, source.info):
                notice(text)
        if way := sizing(job, engine, source.info).way(source.info.width, source.info.height):
            notice(way)
        muxed = job.pipe is None and job.output.suffix.lower() in MUXERS
        if isinstance(source, VideoSource) and muxed and resume.wanted(job, source):
            summary = _in_segments(job, source, backend, engine, notice)
            return dataclasses.replace(summary, reused=meter.share)
        if resume.distributed(job):
            raise MediaError("--workers and --scheduler are for video files, not for images, folders of them or pipes")
        if isinstance(source, VideoSource) and resume.wanted(job, source):
            if job.segment is not None:
                raise MediaError("--segment is for video files that vsaether encodes, not for images, --pipe or -")
            notice("images, --pipe and - are made in one pass: a run that is stopped cannot be gone on with")
        pending, writer = _output(job, source, sizing(job, engine, source.info), stack)
        upscaler = frame_upscaler(job, source, sizing(job, engine, source.info), writer)
        stack.callback(writer.abandon)
        stack.callback(upscaler.close)
        early = list(writer.notices)
        for text in early:
            notice(text)
        began = time.perf_counter()
        changes = Changes(source.info)
        film = not isinstance(writer, ImageWriter)
        reader = Reader(source, span(job), writer.timing if film else None, changes if film else None)
        _loop(job, reader, upscaler, writer)
        if not writer.frames and isinstance(source, ImageSource):
            raise MediaError(source.failure() or f"{job.source}: nothing could be upscaled")
        pending.commit()
        seconds = time.perf_counter() - began
    for text in [*writer.notices[len(early) :], *(changes.notices if film else ())]:
        notice(text)
    missing, failure = 0, None
    if isinstance(source, ImageSource):
        failure = source.failure()
        for text in source.notices():
            notice(text)
    else:
        missing = 0 if span(job).ends else source.missing
        for text in [*source.notices, *source.damage.notices()]:
            notice(text)
    told = {"missing": missing, "failure": failure, "reused": meter.share}
    return _summary(job, source, backend, engine, writer.frames, seconds, **told)


def _in_segments(
    job: Job, source: VideoSource, backend: Backend, engine: Engine, notice: Callable[[str], None]
) -> Summary:
    began = time.perf_counter()
    end, before = resume.make(job, source, engine, backend.name, notice)
    seconds = time.perf_counter() - began
    return _summary(job, source, backend, engine, end.frames, seconds, missing=end.missing, before=before)


def _summary(
    job: Job,
    source: VideoSource | ImageSource,
    backend: Backend,
    engine: Engine,
    frames: int,
    seconds: float,
    **others: Any,
) -> Summary:
    size = sizing(job, engine, source.info).of(source.info.width, source.info.height)
    precision = "; ".join(filter(None, (engine.precision, backend.note(engine.precision))))
    return Summary(engine.name, precision, backend.name, frames, seconds, size, job.source, job.output, **others)


def _source(job: Job) -> VideoSource | ImageSource:
    images = job.source.is_dir() or is_still(job.source)
    if images and job.deinterlace:
        raise MediaError("--deinterlace is for videos")
    if images and (job.start is not None or job.end is not None):
        raise MediaError("--start and --end are for videos; of images give those that are wanted")
    rate = job.rate or _IMAGE_RATE
    if job.source.is_dir():
        paths, others = list_images(job.source)
        if not paths:
            raise MediaError(f"{job.source} holds no images{f', but {listed(others)}' if others else ''}")
        film = job.output.suffix.lower() in MUXERS  # a missing picture would move all others
        return ImageSource(paths[: job.limit], rate, not film, others, job.tags)
    if job.source.suffix.lower() in NAMED and not job.source.is_file():
        raise MediaError(f"{job.source} is a pipe or a device, and images must be files; save it to one first")
    if is_still(job.source):
        return ImageSource([job.source], rate, False, [], job.tags)
    if job.rate:
        raise MediaError("--fps is for images; a video keeps its timestamps")
    return open_source(job)


def _later_interlaced(job: Job, source: VideoSource) -> bool:
    """Whether a film which begins progressive is known to be interlaced in parts."""
    settled = job.deinterlace or source.info.interlaced or not job.source.is_file()
    return not settled and later_interlaced(job.source, source.stream.index)


def _output(
    job: Job, source: VideoSource | ImageSource, wanted: Sizing, stack: ExitStack
) -> tuple[PendingFile | PendingFolder | pipe.Pending, VideoWriter | ImageWriter | PipeWriter]:
    """The output, checked and opened."""
    if job.pipe is not None or str(job.output) == "-":
        if job.pipe is not None:
            check_target(job.output, job.source, job.overwrite)
        return pipe.opened(job, source, wanted, stack)
    suffix = job.output.suffix.lower()
    if suffix in MUXERS:
        check_target(job.output, job.source, job.overwrite)
        encoder = encoders.choose(job.encoding, suffix, source.info, wanted)
        pending = stack.enter_context(PendingFile(job.output, job.overwrite))
        video = source if isinstance(source, VideoSource) else None
        others = {"drop_unsupported": job.drop_unsupported, "span": span(job), "audio_codec": job.audio_codec}
        return pending, VideoWriter(pending, encoder, source.info, wanted, video, **others)
    if job.encoding != Encoding():
        raise MediaError("--codec, --crf, --preset, --pix-fmt and --encoder-options are for videos, not for images")
    if suffix and suffix not in SUFFIXES:
        known = ", ".join([*MUXERS, *sorted(SUFFIXES)])
        raise MediaError(
            f"{job.output}: the suffix {suffix} is none of {known}; no suffix stands for a folder of images"
        )
    numbered = _PATTERN.search(job.output.name)
    if numbered and not suffix:
        raise MediaError(f"{job.output} is a pattern without a suffix; add one, such as {job.output.name}.png")
    if suffix and not numbered:
        if job.source.is_dir() or isinstance(source, VideoSource):
            raise MediaError(f"{job.output} is one image; for many, give a folder or a pattern such as frames/%06d.png")
        check_target(job.output, job.source, job.overwrite)
        pending = PendingFolder(job.output.parent, job.overwrite)
        return stack.enter_context(pending), ImageWriter(pending, suffix, lambda name, number: job.output.name, source)
    folder = job.output.parent if suffix else job.output
    check_target(folder, job.source, job.overwrite, folder=True)
    if folder.is_dir() and any(folder.iterdir()) and not job.overwrite:
        raise MediaError(f"the folder {folder} is not empty; choose another, or let files be replaced with --overwrite")
    inputs = source.paths if isinstance(source, ImageSource) else [source.path]
    pending = stack.enter_context(PendingFolder(folder, job.overwrite, inputs))
    images = source if isinstance(source, ImageSource) else None
    if numbered:
        return pending, ImageWriter(pending, suffix, partial(_numbered, job.output.name), images)
    if images is None:
        return pending, ImageWriter(pending, ".png", lambda name, number: f"{name}.png")
    return pending, ImageWriter(pending, None, images.written_name, images)


def _numbered(pattern: str, name: str, number: int) -> str:
    return _PATTERN.sub(lambda found: found[0] % number, pattern, count=1)


def _loop(job: Job, reader: Reader, upscaler: FrameUpscaler, writer: VideoWriter | ImageWriter | PipeWriter) -> None:
    """All frames upscaled and written, and all else copied, in one pass."""
    with progress.bar(reader.total) as bar:

        def put(done: Iterator[tuple[av.VideoFrame, str]]) -> None:
            for frame, name in done:
                writer.write(frame, name)
                bar.update()

        for item in reader:
            if isinstance(item, av.Packet):
                writer.copy(item)
            else:
                put(upscaler.push(*item))
        put(upscaler.flush())
        bar.total = bar.n
    if not reader.frames:
        raise MediaError(f"{job.source} holds no frame which can be decoded")
    writer.close()
