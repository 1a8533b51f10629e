"""Several inputs in one call, and folders: each its own job; one that fails does not stop the others."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from vsaether.cli import main

from .conftest import contents, make_video, read


@pytest.fixture
def season(tmp_path: Path) -> Path:
    folder = tmp_path / "season"
    folder.mkdir()
    make_video(folder / "1.mkv", pts=[0, 40, 80])
    make_video(folder / "2.avi", pts=[0, 40, 80], codec="mpeg4")
    (folder / "3.mkv").write_bytes(b"no video")
    (folder / "notes.txt").write_text("what to watch")
    return folder


def upscale(*arguments: object) -> int:
    return main(["upscale", *map(str, arguments), "--engine", "tiny_2x_int8"])


def files(folder: Path) -> list[str]:
    return sorted(name for name, data in contents(folder).items() if data is not None)


def test_a_folder_of_videos(season: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert upscale(season, out) == 1
    told = capfd.readouterr()
    assert files(out) == ["1.mkv", "2.mkv"]
    assert all(len(read(out / name).frames) == 3 for name in files(out))
    assert "1 of 3 inputs failed: 3.mkv" in told.err
    assert "notes.txt" in told.err
    assert [line.split()[0] for line in told.out.splitlines()[-4:]] == ["input", "1.mkv", "2.avi", "3.mkv"]
    before = contents(out)
    (season / "3.mkv").unlink()
    assert upscale(season, out, "--json") == 0  # what is done is not done again
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [each["status"] for each in events if each["event"] == "input"] == ["there already"] * 2
    assert contents(out) == before


def test_several_inputs_of_different_kinds(season: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Image.new("RGB", (16, 16)).save(tmp_path / "still.png")
    assert upscale(season / "1.mkv", tmp_path / "still.png", season / "2.avi", out) == 0
    assert files(out) == ["1.mkv", "2.mkv", "still.png"]
    assert Image.open(out / "still.png").size == (32, 32)


def test_nothing_is_begun_where_the_outputs_are_unclear(
    season: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(season / "1.mkv", season / "2.mkv")
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    for arguments, told in (
        ((season / "2.avi", season / "2.mkv", tmp_path / "out"), "would both become"),
        ((season / "2.avi", season / "2.mkv", tmp_path / "out.mkv"), "give a folder"),
        ((season, season / "1.mkv"), "1.mkv"),
        ((season / "1.mkv", tmp_path / "out", "--recursive"), "--recursive is for folders"),
        ((tmp_path / "empty", tmp_path / "out", "--recursive"), "holds no videos"),
    ):
        assert upscale(*arguments) == 1
        assert told in capfd.readouterr().err
    assert contents(tmp_path) == before


def test_folders_are_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Videos of one name in several folders; what OUT, job folders and hidden folders hold is no input."""
    series = tmp_path / "series"
    for place in ("1", "2/extras", ".hidden", "1/x.mkv.vsaether-job"):
        (series / place).mkdir(parents=True)
    make_video(series / "1" / "a.mkv", pts=[0, 40])
    for other in ("2/a.mkv", "2/extras/b.mkv", ".hidden/c.mkv", "1/x.mkv.vsaether-job/d.mkv"):
        shutil.copy(series / "1" / "a.mkv", series / other)
    (series / "2" / "notes.txt").write_text("notes")
    for _ in range(2):  # the second time it holds what it made
        assert upscale(series, series / "out", "--recursive") == 0
        assert files(series / "out") == ["1/a.mkv", "2/a.mkv", "2/extras/b.mkv"]
    assert capfd.readouterr().out.count("there already") == 3
    assert upscale(series / "2", tmp_path / "flat") == 0
    assert files(tmp_path / "flat") == ["a.mkv"]
    assert "extras (a folder)" in (said := capfd.readouterr().err) and "--recursive" in said


def test_jobs_below_a_folder_are_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a" / "x.mkv.vsaether-job").mkdir(parents=True)
    for options, found in (((), False), (("--recursive",), True)):
        assert main(["jobs", "list", str(tmp_path), *options]) == 0
        assert ("x.mkv.vsaether-job" in capfd.readouterr().out) == found
