"""Inputs which are not whole, regular files: pipes, damaged films, films that end early."""

import os
import threading
from pathlib import Path

import pytest

from .conftest import Run, make_video, read

FAST = ("--preset", "ultrafast")


def feed(pipe: Path, data: bytes) -> threading.Thread:
    """A named pipe which gives the data once, to whoever opens it first."""
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb") as file:
            file.write(data)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("suffix", "frames"), [(".ts", 100), (".ts", 5), (".mkv", 40)])
def test_a_pipe_is_read_once(run: Run, tmp_path: Path, suffix: str, frames: int) -> None:
    """Nothing of it is lost: all frames and all packets are there, as of the file."""
    source = make_video(tmp_path / f"in{suffix}", pts=[40 * i for i in range(frames)], audio="aac")
    thread = feed(tmp_path / "pipe", source.read_bytes())
    result = run(tmp_path / "pipe", tmp_path / "out.mkv", *FAST)
    thread.join(10)
    assert result.code == 0, result.err
    assert run(source, tmp_path / "same.mkv", *FAST).code == 0
    piped, same = read(tmp_path / "out.mkv"), read(tmp_path / "same.mkv")
    assert len(piped.times) == frames
    assert piped.times == same.times
    assert piped.packets == same.packets


def test_what_is_no_file_is_refused_in_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in a pipe, and - for standard input or output; no folder of that name appears."""
    monkeypatch.chdir(tmp_path)
    video = make_video(tmp_path / "in.mkv")
    os.mkfifo(tmp_path / "in.png")
    for source, output, reason in (
        ("in.png", "out.png", "in.png is a pipe"),
        (video, "-", "- is not a file"),
        ("-", "out.mkv", "give /dev/stdin"),
    ):
        result = run(source, output)
        assert result.code == 1
        assert reason in result.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "in.png"]
