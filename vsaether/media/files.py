"""Output files and folders: written under a temporary name beside the final one, which they get when complete."""

import os
import shutil
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Self

from presets import files
from vsaether.errors import MediaError


def check_target(target: Path, source: Path, overwrite: bool, folder: bool = False) -> None:
    """Refuse a file, or a folder, which could not be written, or would destroy something. Raises MediaError."""
    if not target.parent.is_dir():
        raise MediaError(f"the folder {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise MediaError(f"the folder {target.parent} is not writable")
    if target.exists() and target.samefile(source):
        raise MediaError(f"{target} is the input itself; choose another output")
    if folder and os.path.lexists(target) and not target.is_dir():
        raise MediaError(f"{target} is not a folder; choose another name")
    if not folder:
        _check_file(target, overwrite)


def _check_file(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise MediaError(f"{target} is a folder; choose another name for the file")
    if os.path.lexists(target) and not overwrite:  # a link to nowhere, too
        raise MediaError(f"{target} exists; choose another name, or allow it to be replaced with --overwrite")


class Written:
    """The files and folders which get their final name in this thread while it is open; as a string, a sentence."""

    def __init__(self) -> None:
        self._targets: list[Path] = []

    def __enter__(self) -> Self:
        self._token = _written.set(self._targets)
        return self

    def __exit__(self, *error: object) -> None:
        _written.reset(self._token)

    def __str__(self) -> str:
        if not self._targets:
            return "nothing was written"
        more = f" and {len(self._targets) - 1} more" if len(self._targets) > 1 else ""
        return f"{self._targets[0]}{more} had been written"


_written: ContextVar[list[Path] | None] = ContextVar("_written", default=None)


def _record(target: Path) -> None:
    targets = _written.get()
    if targets is not None:
        targets.append(target)


class PendingFile:
    """A file to be: write to ``path``, then ``commit``. Left without a commit, nothing remains.

    It is beside the target until then, or in a ``folder`` of the same file system.
    """

    def __init__(self, target: Path, overwrite: bool, folder: Path | None = None) -> None:
        self.target = target
        self.path = files.temporary(folder / target.name if folder else target)
        self._overwrite = overwrite

    def __enter__(self) -> Self:
        try:
            self.path.touch(exist_ok=False)
        except OSError as error:
            raise MediaError(f"cannot write {self.target}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)

    def commit(self) -> None:
        """Flush to the disk, and give the file its name."""
        _sync(self.path)
        _place(self.path, self.target, self._overwrite)
        _record(self.target)
        _sync(self.target.parent)


class PendingFolder:
    """A folder to be, or files to be added to one: write into ``path``, then ``commit``.

    None of the files can take the place of one of ``inputs``.
    """

    def __init__(self, target: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
        self.target = target
        self.path = files.temporary(target / "x" if target.is_dir() else target)
        self._overwrite = overwrite
        self._inputs = {_identity(path) for path in inputs}

    def __enter__(self) -> Self:
        try:
            self.path.mkdir()
        except OSError as error:
            raise MediaError(f"cannot write {self.target}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def add(self, name: str, data: bytes) -> None:
        """Write a file into the folder. Raises MediaError if one of this name is there, and must not be replaced."""
        target = self.target / name
        if target.exists() and _identity(target) in self._inputs:
            raise MediaError(f"{target} is an input itself; choose another folder or other names")
        _check_file(target, self._overwrite)
        try:
            files.create(self.path / name, data)
        except FileExistsError as error:
            raise MediaError(f"two inputs would both be written as {target}; rename one") from error
        except OSError as error:
            raise MediaError(f"cannot write {target}: {error.strerror}") from error

    def commit(self) -> None:
        """Give the folder its name, or move its files into the one that is there."""
        if self.path.parent == self.target:
            for path in sorted(self.path.iterdir()):
                target = self.target / path.name
                _place(path, target, self._overwrite)
                _record(target)
        else:
            self.path.rename(self.target)
            _record(self.target)
        _sync(self.target)
        _sync(self.target.parent)


def _identity(path: Path) -> tuple[int, int]:
    """What is the same for two names of one file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _place(path: Path, target: Path, overwrite: bool) -> None:
    """Give a complete file its name, but never onto a file which has appeared in the meantime."""
    if overwrite:
        path.replace(target)
        return
    try:
        files.rename_new(path, target)
    except FileExistsError as error:
        raise MediaError(f"{target} has appeared in the meantime; it was left as it is") from error


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk, if the file system can. Raises MediaError."""
    try:
        files.sync(path)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror}") from error
