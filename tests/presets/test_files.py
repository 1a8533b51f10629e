"""Files appear when they are complete, or not at all."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from presets import files

ROOT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuse(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_a_file_is_written_or_replaced_under_any_name_there_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    for data in (b"old", b"new"):
        files.write(path, data)
        assert path.read_bytes() == data
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_all_or_none_and_what_was_there_stays(tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second file's flush fails, and where its name is taken by a folder."""
    (tmp_path / "a").write_bytes(b"before")
    if failing == "replace":
        (tmp_path / "b").mkdir()
        with pytest.raises(OSError, match="directory"):
            files.write_all({tmp_path / "b": b"2", tmp_path / "a": b"1"})
    else:
        flushed = iter([None, OSError(errno.ENOSPC, "No space left on device")])

        def fsync(_: int) -> None:
            if error := next(flushed):
                raise error

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space"):
            files.write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert (tmp_path / "a").read_bytes() == b"before"
    assert names(tmp_path) == (["a", "b"] if failing == "replace" else ["a"])


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    code = """
import os, pathlib, sys, time
from presets import files
os.fsync = lambda handle: (print("flushing", flush=True), time.sleep(60))
files.write(pathlib.Path(sys.argv[1]), b"half")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout and process.stdout.readline() == "flushing\n"
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "a").read_bytes() == b"before"


def test_a_new_file_takes_nobodys_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file system has no hard links."""
    for name in ("linked", "not linked"):
        new, target = tmp_path / "new", tmp_path / name
        files.create(new, b"mine", mode=0o600)
        files.rename_new(new, target)
        assert target.read_bytes() == b"mine" and target.stat().st_mode & 0o777 == 0o600 and not new.exists()
        files.create(new, b"second")
        with pytest.raises(FileExistsError):
            files.rename_new(new, target)
        with pytest.raises(FileExistsError):
            files.create(new, b"")
        assert (target.read_bytes(), new.read_bytes()) == (b"mine", b"second")
        new.unlink()
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))


def test_flushing_where_folders_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where besides only what was opened for writing is flushed."""

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        assert not os.path.isdir(path) and flags & (os.O_RDWR | os.O_WRONLY), f"{path} cannot be flushed there"
        return os.open(path, flags, mode)

    monkeypatch.setattr(files, "os", SimpleNamespace(**{**vars(os), "name": "nt", "open": opened}))
    files.write(tmp_path / "a", b"1")
    files.sync(tmp_path / "a")
    assert names(tmp_path) == ["a"]


def test_a_folder_without_flush_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    files.sync(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        files.sync(tmp_path)


def test_nothing_is_flushed_or_put_into_place_elsewhere() -> None:
    """benchmarks.gpu_record flushes a log that it appends to."""
    words = re.compile(r"os\.(fsync|link|O_DIRECTORY)\b|mkstemp|NamedTemporaryFile")
    packages = ("arch", "export", "vsaether", "training", "chainner_nodes", "presets")
    found = [path for package in packages for path in (ROOT / package).rglob("*.py") if words.search(path.read_text())]
    assert found == [ROOT / "presets" / "files.py"]
