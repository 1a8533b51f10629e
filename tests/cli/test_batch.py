"""Several inputs in one call: each its own job; one that fails does not stop the others."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vsaether.cli import main

from .conftest import contents, make_video, read

PTS = [0, 40, 80]


@pytest.fixture
def season(tmp_path: Path) -> Path:
    folder = tmp_path / "season"
    folder.mkdir()
    make_video(folder / "1.mkv", pts=PTS)
    make_video(folder / "2.avi", pts=PTS, codec="mpeg4")
    (folder / "3.mkv").write_bytes(b"no video")
    (folder / "notes.txt").write_text("what to watch")
    return folder


def upscale(*arguments: object) -> int:
    return main(["upscale", *map(str, arguments), "--engine", "tiny_2x_int8"])


def test_a_folder_of_videos(season: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert upscale(season, out) == 1
    told = capfd.readouterr()
    assert sorted(path.name for path in out.iterdir()) == ["1.mkv", "2.mkv"]
    assert all(len(read(out / name).frames) == 3 for name in ("1.mkv", "2.mkv"))
    assert "1 of 3 inputs failed: 3.mkv" in told.err
    assert "notes.txt" in told.err
    table = told.out.splitlines()[-4:]
    assert [line.split()[0] for line in table] == ["input", "1.mkv", "2.avi", "3.mkv"]
    before = contents(out)
    (season / "3.mkv").unlink()
    assert upscale(season, out, "--json") == 0  # what is done is not done again
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert [each["status"] for each in events if each["event"] == "input"] == ["there already"] * 2
    assert contents(out) == before


def test_several_inputs_of_different_kinds(season: Path, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "still.png")
    out = tmp_path / "out"
    assert upscale(season / "1.mkv", tmp_path / "still.png", season / "2.avi", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["1.mkv", "2.mkv", "still.png"]
    assert Image.open(out / "still.png").size == (32, 32)


def test_nothing_is_begun_where_the_outputs_are_unclear(
    season: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_video(season / "2.mkv", pts=PTS)
    before = contents(tmp_path)
    for output, told in ((tmp_path / "out", "would both become"), (tmp_path / "out.mkv", "give a folder")):
        assert upscale(season / "2.avi", season / "2.mkv", output) == 1
        assert told in capfd.readouterr().err
    assert upscale(season, season / "1.mkv") == 1
    assert contents(tmp_path) == before
