"""A whole film, in segments: made, kept until it is complete, and gone on with where it was stopped."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from vsaether.engines import Engine

from . import manifest, progress
from .assemble import assemble
from .changes import Changes
from .cuts import LONGEST, Cutter
from .files import PendingFile, check_target
from .film import FilmRun
from .graph import FrameUpscaler
from .interrupts import Interrupted, stoppable
from .manifest import End, JobFolder, Record
from .muxer import VideoWriter
from .reading import Reader
from .segments import Recipe
from .settings import Job, settings, sizing, upscaling
from .source import VideoSource

_LONG = 60  # seconds of film which are more than one likes to compute twice


def wanted(job: Job, source: VideoSource) -> bool:
    """Whether a video is made in segments: if it is a file, not a pipe, and long, or segments were asked for."""
    if not job.resume or not job.source.is_file():
        return False
    info = source.info
    frames = min(info.frames, job.limit) if job.limit else info.frames
    return job.segment is not None or frames / info.rate > _LONG


def make(job: Job, source: VideoSource, engine: Engine, backend: str, notice: Callable[[str], None]) -> tuple[End, int]:
    """Make a film, or go on with it. Its job folder is removed when the output is complete.

    The result is what is known of the film, and how many of its frames were done before.

    Raises MediaError, or Interrupted; what is complete by then is kept, and a note says so.
    """
    check_target(job.output, job.source, job.overwrite)
    folder = JobFolder.of(job.output)
    told = description(job, engine, backend)
    recipe = Recipe.of(job, source, sizing(job, engine, source.info), os.cpu_count() or 1)
    with PendingFile(job.output, job.overwrite) as pending:  # what the container refuses is known at once
        writer = VideoWriter(pending, recipe.encoder, source.info, recipe.sizing, source, job.drop_unsupported)
        writer.abandon()
    for text in writer.notices:
        notice(text)
    cores = folder.open(told)["about"]["cores"]
    recipe = Recipe.of(job, source, sizing(job, engine, source.info), cores)
    try:
        done = _done(folder, notice)
        before = sum(record.frames for record in done.values())
        end = folder.end
        if end is None or len(done) < end.segments:
            end = _encode(job, source, recipe, writer, folder, done, notice)
        _finish(job, recipe, folder, end, notice)
    except BaseException:
        kept = sum(1 for _ in folder.records())
        if kept:
            notice(f"{kept} segments are kept in {folder.path}; the same command goes on with them")
        folder.close()
        if not kept:
            folder.remove()
        raise
    folder.remove()
    return end, before


def description(job: Job, engine: Engine, backend: str) -> dict[str, Any]:
    """The manifest of a job: what decides over its result, and under "about" what does not."""
    return {
        "input": manifest.fingerprint(job.source),
        "settings": manifest.plain(settings(job)),
        "engine": {"name": engine.name, "sha256": hashlib.sha256(engine.model).hexdigest()},
        "backend": job.backend if ":" in job.backend else backend,
        "versions": manifest.versions(),
        "about": {
            "input": str(job.source.absolute()),
            "output": str(job.output.absolute()),
            "begun": time.strftime("%Y-%m-%d %H:%M:%S"),
            "cores": os.cpu_count() or 1,
        },
    }


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
    reader = Reader(source, job.limit, writer.timing, changes)
    before = sum(record.frames for record in done.values())
    depth = job.num_streams + 2
    upscaler = FrameUpscaler(
        upscaling(job), recipe.sizing, writer.target, depth, writer.size, source.carries, job.dither
    )

    def asked() -> None:
        notice("stopping where this segment ends; Ctrl-C again stops at once")

    with progress.bar(reader.total, before) as bar, closing(upscaler), stoppable(asked) as stop:
        run = FilmRun(folder, recipe, upscaler, done, bar.update)
        segments = run.run(reader, Cutter(job.segment or LONGEST), stop)
        if segments is None:
            raise Interrupted(signal.SIGINT)
        bar.total = bar.n
    missing = 0 if job.limit else source.missing
    notices = (*changes.notices, *source.notices, *source.damage.notices())
    folder.end = end = End(segments, reader.frames, missing, reader.end, notices)
    return end


def _finish(job: Job, recipe: Recipe, folder: JobFolder, end: End, notice: Callable[[str], None]) -> None:
    """Put the film together, and give it its name."""
    records = [folder.record(number + 1) for number in range(end.segments)]
    with closing(VideoSource(job.source, job.tags)) as source, PendingFile(job.output, job.overwrite) as pending:
        writer = VideoWriter(
            pending, recipe.encoder, source.info, recipe.sizing, source, job.drop_unsupported, recipe.threads
        )
        told = len(writer.notices)
        try:
            assemble(writer, source, folder, [record for record in records if record], end)
        finally:
            writer.abandon()
        pending.commit()
    for text in (*writer.notices[told:], *end.notices):
        notice(text)
