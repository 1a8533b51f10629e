"""Files that appear only when they are complete and on the disk: a temporary name beside, fsync, rename.

What this needs of the system is here alone, and works where folders cannot be opened and names are locked (Windows).
All errors are OSError; callers say in their own words what was not written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def temporary(path: Path) -> Path:
    """A name beside `path` which nobody has, and which is short: the final one may be as long as the system allows."""
    return path.with_name(f".aethernet-{uuid.uuid4().hex[:8]}.part")


def write(path: Path, data: bytes) -> None:
    """Write a file, in place of one that is there."""
    write_all({path: data})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files, none of which appears before all are on the disk."""
    pending = {path: temporary(path) for path in contents}
    try:
        for path, data in contents.items():
            create(pending[path], data)
        for path, new in pending.items():
            new.replace(path)
        for folder in {path.parent for path in pending}:
            sync(folder)
    finally:
        for new in pending.values():
            new.unlink(missing_ok=True)


def create(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file that is on the disk when this returns, and removed again where this fails.

    mode: its permissions, as far as the umask and the system have them. Raises FileExistsError where the name is taken.
    """
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        try:
            file.write(data)
            flush(file)
        except BaseException:
            file.close()  # an open file cannot be removed everywhere
            path.unlink(missing_ok=True)
            raise


def rename_new(path: Path, target: Path) -> None:
    """Rename a file, but never onto one that is there: that raises FileExistsError."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        path.rename(target)
    else:
        path.unlink()


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(file: IO[Any]) -> None:
    """What was written to an open file is on the disk when this returns."""
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk, where the system and the file system can."""
    if path.is_dir() and os.name != "posix":
        return
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:  # a folder that can be written, but not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(handle)
