"""Several films in one call: each its own job, and what became of them."""

import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import vapoursynth as vs
from av.error import FFmpegError
from av.stream import Disposition

from presets.errors import AetherNetError
from vsaether.errors import MediaError

from .encoders import MUXERS
from .images import SUFFIXES
from .job import Summary, run
from .manifest import SUFFIX, JobFolder
from .settings import Job
from .stills import is_still, list_images, listed


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    source: Path
    output: Path
    status: str
    """"done", "there already", or "failed"."""
    frames: int = 0
    seconds: float = 0.0
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True)
class Batch:
    """What became of all inputs."""

    outcomes: tuple[Outcome, ...]

    @property
    def failure(self) -> str | None:
        """How many failed, or None."""
        failed = [each.source.name for each in self.outcomes if each.status == "failed"]
        return f"{len(failed)} of {len(self.outcomes)} inputs failed: {listed(failed)}" if failed else None

    def __str__(self) -> str:
        rows = [("input", "status", "frames", "seconds", "output, or why not")]
        for each in self.outcomes:
            done = each.status == "done"
            frames, seconds = (str(each.frames), f"{each.seconds:.1f}") if done else ("", "")
            rows.append((each.source.name, each.status, frames, seconds, each.reason or str(each.output)))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        aligned = [[cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows]
        return "\n".join("  ".join([*cells, row[4]]).rstrip() for cells, row in zip(aligned, rows, strict=True))


def jobs(
    sources: list[Path], output: Path, job: Job, notice: Callable[[str], None], recursive: bool = False
) -> list[Job] | None:
    """The job of each input, if they are several, or a folder of videos; else None: the input is what ``job`` is for.

    Outputs lie in a folder and have their inputs' names, and suffixes where such files are written, else .mkv or .png.
    ``recursive`` takes the videos of all folders in a folder, too, whose outputs lie in folders of the same names.
    Raises MediaError where two would be one, or ``output`` cannot be a folder.
    """
    if recursive and not any(source.is_dir() for source in sources):
        raise MediaError(f"--recursive is for folders of videos, and {listed(map(str, sources))} is none")
    if len(sources) == 1 and not recursive and not _holds_videos(sources[0]):
        return None
    if output.exists() and not output.is_dir():
        raise MediaError(f"{output} is a file; for several inputs, give a folder")
    if str(output) == "-" or output.suffix.lower() in {*MUXERS, *SUFFIXES} or re.search(r"%0?\d*d", output.name):
        raise MediaError(f"{output} is one file; for several inputs, give a folder")
    made: dict[Path, Job] = {}
    found = [
        each
        for given in sources
        for each in (_all_videos(given, output) if recursive and given.is_dir() else _expanded(given, notice))
    ]
    if not found:
        raise MediaError(f"{listed(map(str, sources))} holds no videos")
    for source, place in found:
        target = output / place / _name(source)
        if (other := made.get(target)) is not None:
            raise MediaError(f"{other.source} and {source} would both become {target}; upscale them apart")
        made[target] = dataclasses.replace(job, source=source, output=target)
    return list(made.values())


def run_all(
    all_jobs: list[Job], notice: Callable[[str], None], finished: Callable[[Outcome, Summary | None], None]
) -> Batch:
    """Do each job, whatever becomes of the others; ``finished`` is told of each. What is there already stays."""
    outcomes = []
    for job in all_jobs:
        summary = None
        if job.output.exists() and not job.overwrite:
            JobFolder.of(job.output).tidy(job.output)
            outcome = Outcome(job.source, job.output, "there already")
        else:
            try:
                job.output.parent.mkdir(parents=True, exist_ok=True)
                summary = run(job, lambda text, name=job.source.name: notice(f"{name}: {text}"))
                outcome = Outcome(job.source, job.output, "done", summary.frames, summary.seconds)
                if summary.failure:
                    outcome = dataclasses.replace(outcome, status="failed", reason=summary.failure)
            except (vs.Error, AetherNetError, FFmpegError, OSError, MemoryError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                outcome = Outcome(job.source, job.output, "failed", reason=reason)
        outcomes.append(outcome)
        finished(outcome, summary)
    return Batch(tuple(outcomes))


def _holds_videos(folder: Path) -> bool:
    """Whether it is a folder of videos. (Images come first: what else lies among them is left out.)"""
    return folder.is_dir() and not list_images(folder)[0] and any(map(_is_video, folder.iterdir()))


def _all_videos(folder: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """The videos of a folder and of all in it, each with its place there: what OUT holds, and hidden ones, apart."""
    own = output.resolve()
    for name, folders, files in os.walk(folder):
        here = Path(name)
        folders[:] = sorted(
            each
            for each in folders
            if not each.startswith(".") and not each.endswith(SUFFIX) and (here / each).resolve() != own
        )
        yield from ((here / each, here.relative_to(folder)) for each in sorted(files) if _is_video(here / each))


def _expanded(source: Path, notice: Callable[[str], None]) -> Iterator[tuple[Path, Path]]:
    """The input itself, or of a folder of videos each; in OUT it has no place of its own."""
    if not _holds_videos(source):
        yield source, Path()
        return
    others = []
    for path in sorted(source.iterdir()):
        if path.name.startswith("."):
            continue
        if _is_video(path):
            yield path, Path()
        elif not path.name.endswith(SUFFIX):
            others.append(f"{path.name} (a folder)" if path.is_dir() else path.name)
    if others:
        folders = "; --recursive takes those in folders" if any(each.endswith("(a folder)") for each in others) else ""
        notice(f"{source}: {listed(others)} left out: no videos{folders}")


def _is_video(path: Path) -> bool:
    if not path.is_file() or path.name.startswith(".") or is_still(path):
        return False
    try:
        with av.open(str(path.absolute())) as container:
            return any(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)
    except (FFmpegError, OSError):
        return path.suffix.lower() in MUXERS  # damaged, which its job says


def _name(source: Path) -> str:
    if source.is_dir():
        return source.resolve().name
    suffix = source.suffix.lower()
    if suffix in MUXERS or (suffix in SUFFIXES and is_still(source)):
        return source.name
    return f"{source.stem}.png" if is_still(source) else f"{source.stem}.mkv"
