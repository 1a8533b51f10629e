"""A whole film, in segments: made, kept until it is complete, and gone on with where it was stopped."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vsaether.engines import Engine
from vsaether.errors import MediaError

from . import progress
from .assemble import assemble
from .changes import Changes
from .cuts import LONGEST, Cutter
from .files import PendingFile, check_target
from .film import FilmRun
from .identity import description
from .interrupts import Interrupted, stoppable
from .manifest import End, JobFolder, Record, SegmentPlan
from .muxer import VideoWriter
from .planning import plans
from .reading import Reader
from .segments import Recipe, open_source
from .settings import Job, frame_upscaler, sizing, span
from .source import VideoSource

if TYPE_CHECKING:
    from .cluster import Distribution

_LONG = 60  # seconds of film which are more than one likes to compute twice


def distributed(job: Job) -> bool:
    """Whether other processes make the segments."""
    return bool(job.workers or job.scheduler)


def wanted(job: Job, source: VideoSource) -> bool:
    """Whether a video is made in segments: if it is a file, not a pipe, and long, or segments were asked for."""
    if not job.source.is_file() or not (job.resume or distributed(job)):
        return False
    info = source.info
    frames = span(job).frames(info.frames, info.rate)
    return job.segment is not None or distributed(job) or frames / info.rate > _LONG


def make(job: Job, source: VideoSource, engine: Engine, backend: str, say: Callable[[str], None]) -> tuple[End, int]:
    """Make a film, or go on with it. Its job folder is removed when the output is complete.

    The result is what is known of the film, and how many of its frames were done before.

    Raises MediaError, or Interrupted; what is complete by then is kept, and a note says so.
    """
    check_target(job.output, job.source, job.overwrite)
    folder = JobFolder.of(job.output)
    told = description(job, engine, backend)
    recipe = Recipe.of(job, source, sizing(job, engine, source.info), os.cpu_count() or 1)
    # What the container refuses is known at once; elsewhere, since a kill would leave the file behind.
    with TemporaryDirectory() as place, PendingFile(job.output, job.overwrite, Path(place)) as pending:
        writer = _writer(job, recipe, source, pending)
        writer.abandon()
    cores = folder.open(told)["about"]["cores"]
    recipe = Recipe.of(job, source, sizing(job, engine, source.info), cores)
    log = folder.log
    begun = "gone on with" if log.path.exists() else "begun"
    log.write(f"{begun}: {job.source.absolute()} to {job.output.absolute()} by {engine.name} ({backend})")

    def notice(text: str) -> None:
        log.write(f"note: {text}")
        say(text)

    for text in writer.notices:
        notice(text)
    try:
        done = _done(folder, notice)
        before = sum(record.frames for record in done.values())
        end = folder.end
        if end is None or len(done) < end.segments:
            end = _encode(job, source, recipe, writer, folder, done, notice)
        _finish(job, recipe, folder, end, notice)
    except BaseException as error:
        _stopped(folder, error, notice)
        raise
    folder.remove()
    return end, before


def _stopped(folder: JobFolder, error: BaseException, notice: Callable[[str], None]) -> None:
    """Leave what is complete for the next run, and of work that failed the log."""
    kept = sum(1 for _ in folder.records())
    folder.log.write(f"stopped: {error or type(error).__name__}")
    if kept:
        notice(f"{kept} segments are kept in {folder.path}; the same command goes on with them")
    elif folder.log.worked and not isinstance(error, Interrupted):
        notice(f"what happened is told in {folder.log.path}")
    else:
        folder.remove()
        return
    folder.close()


def _done(folder: JobFolder, notice: Callable[[str], None]) -> dict[int, Record]:
    """The segments which are complete; what is damaged is forgotten."""
    done = {}
    for record in list(folder.records()):
        if folder.valid(record.number) == record:
            done[record.number] = record
        else:
            notice(f"segment {record.number} is damaged on the disk: it is made again")
            folder.forget(record.number)
    if done:
        frames = sum(record.frames for record in done.values())
        notice(f"going on with {folder.path}: {len(done)} segments of {frames} frames are complete")
    return done


def _encode(
    job: Job,
    source: VideoSource,
    recipe: Recipe,
    writer: VideoWriter,
    folder: JobFolder,
    done: dict[int, Record],
    notice: Callable[[str], None],
) -> End:
    """Make all segments which are not done."""
    changes = Changes(source.info)
    reader = Reader(source, span(job), writer.timing, changes)
    cutter = Cutter(job.segment or LONGEST)
    before = sum(record.frames for record in done.values())

    def asked() -> None:
        notice("stopping when the segments under way are done; Ctrl-C again stops at once")

    def read(segments: int) -> End:
        missing = 0 if span(job).ends else source.missing
        notices = (*changes.notices, *source.notices, *source.damage.notices())
        folder.end = end = End(segments, reader.frames, missing, reader.begin, reader.end, notices)
        return end

    with folder.log.of_libraries(), progress.bar(reader.total, before) as bar, stoppable(asked) as stop:
        if distributed(job):
            segments = _distribution(job, folder, done, bar.update).run(_plans(folder, reader, cutter, read), stop)
            end = None if segments is None else folder.end
        else:
            with closing(frame_upscaler(job, source, recipe.sizing, writer)) as upscaler:
                segments = FilmRun(folder, recipe, upscaler, done, bar.update).run(reader, cutter, stop)
            end = None if segments is None else read(segments)
        if segments is None or end is None:
            raise Interrupted(signal.SIGINT)
        bar.total = bar.n
    return end


def _distribution(job: Job, *arguments: Any) -> "Distribution":
    """What lets other processes make the segments. Raises MediaError where dask is not installed."""
    try:
        from .cluster import Distribution
    except ImportError as error:
        raise MediaError(
            "--workers and --scheduler need dask.distributed; install it with: pip install 'aethernet[cluster]'"
        ) from error
    return Distribution(job, *arguments)


def _plans(folder: JobFolder, reader: Reader, cutter: Cutter, read: Callable[[int], End]) -> Iterator[SegmentPlan]:
    """The plans of all segments: those of a run before, if it has cut the whole film."""
    end = folder.end
    known = [folder.plan(number + 1) for number in range(end.segments)] if end else []
    if known and all(known):
        yield from filter(None, known)
        return
    number = 0
    for plan in plans(reader, cutter):
        number = plan.number
        yield plan
    read(number)


def _writer(job: Job, recipe: Recipe, source: VideoSource, pending: PendingFile) -> VideoWriter:
    """The film's file, opened: what its container refuses is raised here."""
    return VideoWriter(
        pending,
        recipe.encoder,
        source.info,
        recipe.sizing,
        source,
        job.drop_unsupported,
        span(job),
        recipe.threads,
        job.audio_codec,
    )


def _finish(job: Job, recipe: Recipe, folder: JobFolder, end: End, notice: Callable[[str], None]) -> None:
    """Put the film together, and give it its name."""
    records = [folder.record(number + 1) for number in range(end.segments)]
    with closing(open_source(job)) as source, PendingFile(job.output, job.overwrite, folder.path) as pending:
        writer = _writer(job, recipe, source, pending)
        if end.begin is not None:
            writer.timing.start = end.begin
        told = len(writer.notices)
        try:
            with folder.log.of_libraries():
                assemble(writer, source, folder, [record for record in records if record], end)
        finally:
            writer.abandon()
        folder.made(pending.path)
        pending.commit()
    for text in (*writer.notices[told:], *end.notices):
        notice(text)
