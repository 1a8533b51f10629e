"""Folders in folders: their videos in folders of the same names."""

import shutil
from pathlib import Path

import pytest

from vsaether.cli import main

from .conftest import make_video

TWICE = ("--engine", "tiny_2x_int8", "--preset", "ultrafast")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_folders_are_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Videos of one name in several folders; what OUT, job folders and hidden folders hold is no input."""
    series = tmp_path / "series"
    for place in ("1", "2/extras", ".hidden", "1/x.mkv.vsaether-job"):
        (series / place).mkdir(parents=True)
    make_video(series / "1" / "a.mkv", pts=[0, 40])
    for other in ("2/a.mkv", "2/extras/b.mkv", ".hidden/c.mkv", "1/x.mkv.vsaether-job/d.mkv"):
        shutil.copy(series / "1" / "a.mkv", series / other)
    (series / "2" / "notes.txt").write_text("notes")
    made = ["1/a.mkv", "2/a.mkv", "2/extras/b.mkv"]
    for _ in range(2):  # the second time it holds what it made
        assert main(["upscale", str(series), str(series / "out"), "--recursive", *TWICE]) == 0
        assert files(series / "out") == made
    assert capfd.readouterr().out.count("there already") == 3
    assert main(["upscale", str(series / "2"), str(tmp_path / "flat"), *TWICE]) == 0
    assert files(tmp_path / "flat") == ["a.mkv"]
    assert "extras (a folder)" in (said := capfd.readouterr().err) and "--recursive" in said


def test_what_holds_no_videos_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file, and a folder without any."""
    (tmp_path / "empty").mkdir()
    film = make_video(tmp_path / "in.mkv", pts=[0])
    for source, told in ((film, "--recursive is for folders"), (tmp_path / "empty", "holds no videos")):
        assert main(["upscale", str(source), str(tmp_path / "out"), "--recursive", *TWICE]) == 1
        assert told in capfd.readouterr().err
    assert files(tmp_path) == ["in.mkv"]


def test_jobs_below_a_folder_are_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With --recursive, and only then."""
    (tmp_path / "a" / "x.mkv.vsaether-job").mkdir(parents=True)
    for options, found in (((), False), (("--recursive",), True)):
        assert main(["jobs", "list", str(tmp_path), *options]) == 0
        assert ("x.mkv.vsaether-job" in capfd.readouterr().out) == found
