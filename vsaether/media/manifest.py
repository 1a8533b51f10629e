"""The job folder beside an output: the one truth about what of a film is done.

    OUT.vsaether-job/
        manifest.json     what the job is: its input, settings, engine and versions
        000001.plan       where a segment begins, and when its frames are shown (of jobs on several machines)
        000001.packets    the segment's video
        000001.json       that it is complete: its frames and its SHA-256
        end.json          that the whole film has been read, and what was found on the way
        result.json       the complete film, which gets its name next: by its size and number in the file system
        log.txt           what was done when, and what FFmpeg and the encoders had to say

Every file but the log appears complete and on the disk, or not at all. Nothing else is kept anywhere.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from presets import files
from vsaether.errors import MediaError

from .identity import differences
from .log import Log

SUFFIX = ".vsaether-job"
_LONGEST_NAME = 200  # bytes; file systems allow 255


@dataclass(frozen=True)
class Record:
    """A segment which is complete."""

    number: int
    """From 1."""
    first: int
    """The number of its first frame in the film, from 0."""
    frames: int
    checksum: int
    """CRC-32 of its frames as they were decoded."""
    delay: int
    """Frames by which decoding must be ahead of presentation."""
    extradata: str
    """SHA-256 of the encoder's header."""
    size: int
    sha256: str
    """Of the file of its packets."""


@dataclass(frozen=True)
class End:
    """What is known when all of a film has been read."""

    segments: int
    frames: int
    missing: int = 0
    """Frames which the input announces, but does not hold."""
    begin: Fraction | None = None
    """Where the first frame begins in seconds of the input, if those before it were not wanted."""
    end: Fraction | None = None
    """Where the last frame ends in seconds of the input, if more were not wanted."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmentPlan:
    """A segment which is to be made: all that a process must know of it."""

    number: int
    """From 1."""
    first: int
    """The number of its first frame in the film, from 0."""
    start: int
    """When its first frame is shown in the input, in the video's time base."""
    checksum: int
    """CRC-32 of its frames as they are decoded."""
    times: list[tuple[int, int]]
    """When each frame is shown in the output, and for how long, in the time base there."""


class JobFolder:
    """A job folder, and the files in it. Raises MediaError where one cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = Log(path / "log.txt")
        self._lock = FileLock(path / "lock")

    @classmethod
    def of(cls, output: Path) -> Self:
        """That of an output, which need not be there."""
        name = output.name
        if len(os.fsencode(name)) > _LONGEST_NAME:
            name = f"{os.fsdecode(os.fsencode(name)[:100])}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
        return cls(output.absolute().with_name(name + SUFFIX))

    def open(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Begin the job, or go on with it; hold it until ``close``. The result is the manifest it was begun with.

        What stands under "about" in it may differ. Raises MediaError where another process holds the folder, or where
        it is of another job.
        """
        now = json.loads(json.dumps(manifest))
        try:
            self.path.mkdir(exist_ok=True)
            files.sync(self.path.parent)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise MediaError(f"another vsaether is at work on {self.path}; wait for it, or stop it") from error
        except OSError as error:
            raise MediaError(f"cannot write {self.path}: {error.strerror}") from error
        remedy = f"give it back, or another output, or remove what is done with: vsaether jobs clean {self.path}"
        try:
            before = self._json("manifest.json")
            if before is None:
                if any(self.records()):
                    raise MediaError(f"{self.path / 'manifest.json'} is damaged; {remedy}")
                before = now
                self._write("manifest.json", before)
            changed = list(differences(before, now))
            if changed:
                raise MediaError(f"{self.path} is of another job: {'; '.join(changed)}; {remedy}")
            for left in self.path.glob("*.part"):  # by a process that was killed
                left.unlink(missing_ok=True)
        except BaseException:
            self.close()
            raise
        return before

    def close(self) -> None:
        """Let others have it."""
        self._lock.release()

    @property
    def busy(self) -> bool:
        """Whether a process is at work on it."""
        if not self.path.is_dir():
            return False
        try:
            with FileLock(self.path / "lock", timeout=0):
                return False
        except Timeout:
            return True

    @property
    def manifest(self) -> dict[str, Any]:
        """What it was begun with. Raises MediaError if that is not there."""
        found = self._json("manifest.json")
        if found is None:
            raise MediaError(f"{self.path} is no job folder of vsaether: it has no readable manifest.json")
        return found

    @property
    def end(self) -> End | None:
        """What is known of the whole film, once it has been read."""
        found = self._json("end.json")
        if found is None:
            return None
        times = {name: found[name] and Fraction(found[name]) for name in ("begin", "end")}
        return End(**{**found, **times, "notices": tuple(found["notices"])})

    @end.setter
    def end(self, value: End) -> None:
        times = {
            name: None if time is None else str(time) for name, time in (("begin", value.begin), ("end", value.end))
        }
        self._write("end.json", {**dataclasses.asdict(value), **times})

    def plan(self, number: int) -> SegmentPlan | None:
        """The plan of a segment, if there is one."""
        found = self._json(f"{number:06d}.plan")
        return (
            None
            if found is None
            else SegmentPlan(**{**found, "times": [(pts, length) for pts, length in found["times"]]})
        )

    def add_plan(self, plan: SegmentPlan) -> None:
        """Keep the plan of a segment."""
        self._write(f"{plan.number:06d}.plan", dataclasses.asdict(plan))

    def packets(self, number: int) -> Path:
        """The file of a segment's packets."""
        return self.path / f"{number:06d}.packets"

    def record(self, number: int) -> Record | None:
        """A segment's record, if it has one."""
        found = self._json(f"{number:06d}.json")
        try:
            return None if found is None else Record(**found)
        except TypeError:
            return None

    def records(self) -> Iterator[Record]:
        """All records, in order; whether the packets are those which were written is not looked at."""
        for path in sorted(self.path.glob("[0-9]*.json")):
            if (found := self.record(int(path.stem))) is not None:
                yield found

    def valid(self, number: int) -> Record | None:
        """A segment's record, if its packets are still those which were written."""
        found, path = self.record(number), self.packets(number)
        try:
            if found and path.stat().st_size == found.size and files.sha256(path) == found.sha256:
                return found
        except OSError:
            pass
        return None

    def add(self, record: Record) -> None:
        """Say that a segment is complete: its packets are."""
        self._write(f"{record.number:06d}.json", dataclasses.asdict(record))

    def forget(self, number: int) -> None:
        """A segment is to be made again."""
        (self.path / f"{number:06d}.json").unlink(missing_ok=True)
        self.packets(number).unlink(missing_ok=True)

    def made(self, result: Path) -> None:
        """Say which file is the complete film."""
        self._write("result.json", _identity(result))

    def tidy(self, output: Path) -> bool:
        """Remove the folder if its film is complete and has its name, ``output``; a kill may have left it behind."""
        found = self._json("result.json")
        if found is None or not output.is_file() or found != _identity(output) or self.busy:
            return False
        self.remove()
        return True

    def remove(self) -> None:
        """The folder goes; last what tells whose it is, and that it may, so that a kill midway does no harm."""
        self.close()
        last = ["manifest.json", "result.json"]
        with suppress(OSError):
            for name in [path.name for path in self.path.iterdir() if path.name not in last] + last:
                (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return None
        except OSError as error:
            raise MediaError(f"cannot read {self.path / name}: {error.strerror}") from error
        return found if isinstance(found, dict) else None

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            files.write(self.path / name, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise MediaError(f"cannot write {self.path / name}: {error.strerror}") from error


def _identity(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "device": status.st_dev, "number": status.st_ino}


def jobs(folder: Path, recursive: bool = False) -> list[JobFolder]:
    """The job folders in a folder, by name; ``recursive`` finds those in all folders in it, too."""
    found = folder.rglob(f"*{SUFFIX}") if recursive else folder.glob(f"*{SUFFIX}")
    return [JobFolder(path) for path in sorted(found) if path.is_dir()]
