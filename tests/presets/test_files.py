"""Files appear when they are complete, or not at all."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from presets import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_file_is_written_or_replaced_under_any_name_there_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    for data in (b"old", b"new"):
        files.write(path, data)
        assert path.read_bytes() == data
    assert names(tmp_path) == [path.name]


def test_all_or_none_and_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file's name is taken by a folder, and where the second one's flush fails."""
    (tmp_path / "a").write_bytes(b"before")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write_all({tmp_path / "folder": b"2", tmp_path / "a": b"1"})
    monkeypatch.setattr(os, "fsync", Mock(side_effect=[None, error(errno.ENOSPC)]))
    with pytest.raises(OSError, match="No space"):
        files.write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert (tmp_path / "a").read_bytes() == b"before"
    assert names(tmp_path) == ["a", "folder"]


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
        monkeypatch.setattr(os, "link", Mock(side_effect=error(errno.EPERM)))


def test_flushing_where_folders_cannot_be_opened_or_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where besides only what was opened for writing is flushed; and on some file systems."""

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        assert not os.path.isdir(path) and flags & (os.O_RDWR | os.O_WRONLY), f"{path} cannot be flushed there"
        return os.open(path, flags, mode)

    with monkeypatch.context() as windows:
        windows.setattr(files, "os", SimpleNamespace(**{**vars(os), "name": "nt", "open": opened}))
        files.write(tmp_path / "a", b"1")
        files.sync(tmp_path / "a")
        assert names(tmp_path) == ["a"]
    monkeypatch.setattr(os, "fsync", Mock(side_effect=error(errno.EINVAL)))
    files.sync(tmp_path)
    monkeypatch.setattr(os, "fsync", Mock(side_effect=error(errno.EIO)))
    with pytest.raises(OSError, match="Input/output"):
        files.sync(tmp_path)
