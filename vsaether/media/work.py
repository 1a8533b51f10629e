"""One segment made by itself, as its plan says: on this machine or another one which sees the same files."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import av
import vapoursynth as vs
from av.error import FFmpegError

import vsaether
from vsaether import system
from vsaether.errors import MediaError

from .cuts import checksum
from .formats import planar
from .graph import FrameUpscaler
from .identity import description, differences
from .manifest import JobFolder, SegmentPlan
from .segments import Recipe, SegmentWriter, open_source
from .settings import Job, carried, sizing, upscaling
from .source import VideoSource

_CACHE = 1024  # MiB which VapourSynth may keep of frames; it takes gigabytes otherwise
_BACK = 10  # seconds; streams which refresh in parts need some before a place


class Maker:
    """Makes segments of a job, one after the other: what is loaded for the first serves for the others."""

    def __init__(self, job: Job, folder: Path) -> None:
        system.limit_arenas()
        self._job = job
        self._folder = JobFolder(folder)
        backend, engine = vsaether.backends.select(job.backend, job.engine, num_streams=job.num_streams)
        begun = self._folder.manifest
        if changed := list(differences(begun, description(job, engine, backend.name))):
            raise MediaError(f"this machine would make another film: {'; '.join(changed)}")
        vs.core.max_cache_size = min(vs.core.max_cache_size, _CACHE)
        with closing(open_source(job)) as source:
            self._recipe = Recipe.of(job, source, sizing(job, engine, source.info), begun["about"]["cores"])
        encoder = self._recipe.open()
        colours = encoder.layout, encoder.tags
        self._source: VideoSource | None = None
        self._upscaler = FrameUpscaler(
            upscaling(job),
            self._recipe.sizing,
            lambda *given: colours,
            job.num_streams + 2,
            encoder.size,
            lambda frame: self._source is None or carried(job, self._source)(frame),
            job.dither,
            encoder.lends,
        )

    def make(self, number: int) -> int:
        """Make a segment, unless it is complete already; the result is its number.

        Wherever the file is searched, the frames found are compared with those of the plan, all of them. Where they
        differ, the film is decoded from its start. Raises MediaError where that gives others, too.
        """
        if self._folder.valid(number):
            return number
        plan = self._folder.plan(number)
        if plan is None:
            raise MediaError(f"{self._folder.path} has no plan of segment {number}")
        back = round(_BACK / self._recipe.info.time_base)
        starts: list[Callable[[VideoSource], Iterator[av.VideoFrame]]] = [
            lambda source: _from(source.frames_from(plan.start), plan),
            lambda source: _from(source.frames_from(plan.start - back), plan),
            lambda source: _from_first(source, plan),
        ]
        with self._folder.log.of_libraries():
            for start in starts[2 if not plan.first else 0 :]:
                if self._try(plan, start):
                    return number
        raise MediaError(f"the frames of segment {number} are decoded differently here than where the film was cut")

    def _try(self, plan: SegmentPlan, start: Callable[[VideoSource], Iterator[av.VideoFrame]]) -> bool:
        """Make a segment of the frames which are found in some way, if they are the right ones."""
        crc = count = 0
        writer = SegmentWriter(self._folder, plan.number, self._recipe)
        try:
            with closing(open_source(self._job)) as source:
                self._source = source
                for frame, (pts, duration) in zip(start(source), plan.times, strict=False):
                    count += 1
                    frame.pts, frame.duration, frame.time_base = pts, duration, self._recipe.time_base
                    frame, layout = planar(frame)
                    planes, alpha = layout.planes(frame)
                    crc = checksum(planes, alpha, crc)
                    for done, _ in self._upscaler.push(frame, ""):
                        writer.write(done)
            for done, _ in self._upscaler.flush():
                writer.write(done)
            if (count, crc) != (len(plan.times), plan.checksum):
                return False
            writer.finish(plan.first, plan.checksum)
            return True
        except FFmpegError:  # it cannot be searched
            return False
        finally:
            writer.abandon()
            for _ in self._upscaler.flush():
                pass


def _from(frames: Iterator[av.VideoFrame], plan: SegmentPlan) -> Iterator[av.VideoFrame]:
    """From the first frame of a plan on, if that is there."""
    for frame in frames:
        if frame.pts is None or frame.pts > plan.start:
            return
        if frame.pts == plan.start:
            yield frame
            break
    yield from frames


def _from_first(source: VideoSource, plan: SegmentPlan) -> Iterator[av.VideoFrame]:
    """The frames of a plan, of a film which is decoded from its start."""
    return _from((item[0] for item in source if not isinstance(item, av.Packet)), plan)
