"""Built engines on disk: each is built once, by one process, and never loaded if it is not what was written.

An entry is ``<key>.engine`` and ``<key>.json``, its side-car, which is written last: an engine without one is half an
entry, and is built again. What the builder said lies beside, in ``<key>.log``, also of a build that failed. The key is
the SHA-256 of everything that the engine depends on. An engine is executable content, so the folder has to be the
user's own and closed to others (mode 0700), and the side-car's SHA-256 is compared before a path leaves this module.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import vapoursynth as vs
from filelock import FileLock, Timeout

from presets import files

from . import system
from .errors import CacheError

VARIABLE = "VSAETHER_CACHE"
"""Environment variable with another folder than the user's cache folder."""

LIMIT = 8 << 30
"""Bytes of engines that are kept, the most recently used ones."""

ENGINE, SIDECAR, LOCK, LOG = ".engine", ".json", ".lock", ".log"
FORMAT = 1

Key = Mapping[str, str | int | bool]


@dataclass(frozen=True)
class Entry:
    """A built engine: its file, its size, when it was last used, and what it was built from."""

    path: Path
    size: int
    used: float
    sha256: str
    key: dict[str, Any]


class EngineCache:
    """The cache in one folder: `folder`, by default the variable's or the user's own.

    Raises CacheError where the folder cannot be made, or where others can write to it.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.folder = folder or default_folder()
        self.limit = limit

    def get(
        self,
        key: Key,
        build: Callable[[], bytes],
        check: Callable[[Path], None] = lambda path: None,
        wait: Callable[[str], None] | None = None,
    ) -> Path:
        """The path of the engine of that key: a kept one whose SHA-256 is right, or else a new one.

        `build` makes its bytes. `check` is given the path of the new file before it becomes an entry; what it raises
        goes to the caller, and nothing is kept. While another process builds the same, `wait` is told so once, and the
        engine of that process is taken.
        """
        self._prepare()
        name = digest(key)
        lock = FileLock(self.folder / f"{name}{LOCK}", mode=0o600)
        try:
            try:
                lock.acquire(timeout=0.05)
            except Timeout:
                (wait or _say)(f"another process is building this engine; waiting for it ({self.folder})")
                lock.acquire()
        except OSError as error:
            raise self._unusable(error) from error
        try:
            return self._find(name) or self._make(name, key, build, check)
        finally:
            lock.release()

    def log(self, key: Key) -> Path:
        """Where the builder's words about that key go. The folder is there while `get` builds."""
        return self.folder / f"{digest(key)}{LOG}"

    def entries(self) -> list[Entry]:
        """All complete entries, the least recently used first; what is damaged is not among them."""
        found = [entry for path in self.folder.glob(f"*{SIDECAR}") if (entry := _read(path)) is not None]
        return sorted(found, key=lambda entry: entry.used)

    def verify(self) -> dict[Path, str | None]:
        """Every file's state: None where the engine is what was written, else what is wrong with it."""
        states: dict[Path, str | None] = {}
        for path in sorted({*self.folder.glob(f"*{ENGINE}"), *self.folder.glob(f"*{SIDECAR}")}):
            engine = path.with_suffix(ENGINE)
            if engine not in states:
                states[engine] = self._defect(engine)
        return states

    def clear(self) -> int:
        """Remove all entries and leftovers, but for those that a process is building; returns the bytes freed."""
        freed = 0
        for lock_path in self.folder.glob(f"*{LOCK}"):
            lock = FileLock(lock_path, mode=0o600)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            for path in self.folder.glob(f"{lock_path.stem}*"):
                freed += path.stat().st_size if path != lock_path else 0
                path.unlink(missing_ok=True)
            lock.release()
        for path in [file for suffix in (ENGINE, SIDECAR, LOG) for file in self.folder.glob(f"*{suffix}")]:
            if not path.with_suffix(LOCK).exists():
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
        return freed

    def _prepare(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = system.is_private(self.folder)
        except OSError as error:
            raise self._unusable(error) from error
        if not private:
            raise CacheError(
                f"others can write to the engine cache {self.folder}, and engines are executable content; "
                f"chmod 700 it, make it yours, or set {VARIABLE} to a folder of your own"
            )

    def _find(self, name: str) -> Path | None:
        for leftover in self.folder.glob(f"{name}.tmp*"):  # of a process that was killed: it had this lock
            leftover.unlink(missing_ok=True)
        path = self.folder / f"{name}{ENGINE}"
        if not path.exists():
            return None
        if defect := self._defect(path):
            _say(f"the cached engine {path} {defect}; it is built again")
            path.with_suffix(SIDECAR).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return None
        os.utime(path.with_suffix(SIDECAR))
        return path

    def _defect(self, path: Path) -> str | None:
        entry = _read(path.with_suffix(SIDECAR))
        if entry is None:
            return "has no readable side-car"
        if not path.exists():
            return "is missing"
        if files.sha256(path) != entry.sha256:
            return "is not what was written (its SHA-256 differs)"
        return None if digest(entry.key) == path.stem else "belongs to another key"

    def _make(self, name: str, key: Key, build: Callable[[], bytes], check: Callable[[Path], None]) -> Path:
        data = build()
        sidecar = {"format": FORMAT, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "key": dict(key)}
        path = self.folder / f"{name}{ENGINE}"
        engine = self._write(name, data)
        try:
            check(engine)
            description = self._write(name, json.dumps(sidecar, indent=1).encode())
            os.replace(engine, path)
            os.replace(description, path.with_suffix(SIDECAR))
            files.sync(self.folder)
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            for leftover in self.folder.glob(f"{name}.tmp*"):
                leftover.unlink(missing_ok=True)
        self._evict(spared=path)
        return path

    def _write(self, name: str, data: bytes) -> Path:
        """A temporary file of this key, on the disk when this returns."""
        path = self.folder / f"{name}.tmp{uuid.uuid4().hex[:8]}"
        try:
            files.create(path, data, mode=0o600)
        except OSError as error:
            raise self._unusable(error) from error
        return path

    def _evict(self, spared: Path) -> None:
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total <= self.limit:
                return
            if entry.path != spared:
                for suffix in (SIDECAR, ENGINE, LOG):
                    entry.path.with_suffix(suffix).unlink(missing_ok=True)
                total -= entry.size

    def _unusable(self, error: OSError) -> CacheError:
        free = ""
        if self.folder.is_dir():
            free = f" ({shutil.disk_usage(self.folder).free >> 20} MiB are free there)"
        return CacheError(
            f"the engine cache {self.folder} cannot be written: {error.strerror or error}{free}; "
            f"make room, vsaether cache clear, or set {VARIABLE} to another folder"
        )


def default_folder() -> Path:
    """The variable's folder, or ``vsaether/engines`` in the user's cache folder."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path(platformdirs.user_cache_dir("vsaether", appauthor=False)) / "engines"


def digest(key: Key) -> str:
    """The name of a key's files: the SHA-256 of all that is in it."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()


def _read(sidecar: Path) -> Entry | None:
    """The entry that a side-car describes, if its engine is there."""
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        path = sidecar.with_suffix(ENGINE)
        return Entry(path, path.stat().st_size, sidecar.stat().st_mtime, facts["sha256"], facts["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _say(text: str) -> None:
    vs.core.log_message(vs.MESSAGE_TYPE_WARNING, f"aether: {text}")


def describe(entry: Entry) -> str:
    """One line: engine, size of its pictures, card, megabytes, when it was last used."""
    key = entry.key
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    what = "  ".join(str(key[name]) for name in ("backend", "engine", "shapes", "gpu") if name in key)
    return f"{entry.path.stem[:12]}  {entry.size / 2**20:7.1f} MiB  {day}  {what}"
