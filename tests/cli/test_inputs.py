"""Inputs which are not whole, regular files: pipes, damaged films, films that end early."""

import os
import threading
from pathlib import Path

import av
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
    """An image in a pipe, and - for standard input; no folder of that name appears."""
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "in.mkv")
    os.mkfifo(tmp_path / "in.png")
    for source, output, reason in (
        ("in.png", "out.png", "in.png is a pipe"),
        ("-", "out.mkv", "give /dev/stdin"),
    ):
        result = run(source, output)
        assert result.code == 1
        assert reason in result.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "in.png"]


def damaged(path: Path, source: Path) -> Path:
    """A film in one of whose packets a part is overwritten."""
    with av.open(str(source)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    victim = max(packets[1:], key=len)
    data = source.read_bytes()
    at = data.index(victim) + len(victim) * 2 // 3
    path.write_bytes(data[:at] + b"\x55" * (len(victim) // 3) + data[at + len(victim) // 3 :])
    return path


def test_damaged_frames_are_counted(run: Run, tmp_path: Path) -> None:
    """The decoder makes what it can of them, and says which they are: so does a note."""
    source = make_video(tmp_path / "in.mkv", size=(320, 240), codec="mpeg4")
    bad = damaged(tmp_path / "bad.mkv", source)
    broken = sum(shown.is_corrupt for shown in read(bad).frames)
    assert broken
    result = run(bad, tmp_path / "out.mkv", *FAST)
    assert result.code == 0, result.err
    assert f"note: {broken} frames of the input are damaged" in result.err
    assert "damaged" not in run(source, tmp_path / "out2.mkv", *FAST).err


@pytest.mark.parametrize(
    ("suffix", "part", "audio"),
    [(".mkv", 0.35, "aac"), (".mkv", 0.6, None), (".mkv", 0.9, None), (".flv", 0.5, "aac"), (".avi", 0.6, "mp3")],
)
def test_a_file_which_is_cut_off_is_told(run: Run, tmp_path: Path, suffix: str, part: float, audio: str | None) -> None:
    """Its header says how long it should be."""
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    options = {} if suffix == ".avi" else {"bf": "2"}
    pts = [40 * i for i in range(50)]
    source = make_video(tmp_path / f"in{suffix}", pts=pts, audio=audio, codec=codec, options=options)
    data = source.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: int(len(data) * part)])
    result = run(cut, tmp_path / "out.mkv", *FAST)
    assert result.code == 0, result.err
    there = len(read(tmp_path / "out.mkv").times)
    assert 0 < there < 50
    assert "the input ends early" in result.out
    assert "ends early" not in run(source, tmp_path / "out2.mkv", *FAST).out
    if suffix != ".avi":  # PyAV's has one frame a millisecond
        told = int(result.out.partition("ends early: ")[2].split()[2])
        assert abs(told - 50) <= 2


def test_a_film_trimmed_by_an_edit_list_is_whole(run: Run, tmp_path: Path) -> None:
    """What the list leaves out is not missing; what lies behind the end of the file is."""
    source = make_video(
        tmp_path / "in.mp4",
        pts=[40 * i for i in range(50)],
        options={"g": "50", "bf": "2"},
        container_options={"movflags": "faststart"},
    )
    data = bytearray(source.read_bytes())
    at = data.index(b"elst") + 8
    entries = int.from_bytes(data[at : at + 4], "big")
    assert entries == 1
    duration, media = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (4, 8))
    assert duration == 2000
    data[at + 4 : at + 8] = (1430).to_bytes(4, "big")  # milliseconds
    data[at + 8 : at + 12] = (media + 16000 * 300 // 1000 + 77).to_bytes(4, "big")
    trimmed = tmp_path / "trimmed.mp4"
    trimmed.write_bytes(data)
    shown = len(read(trimmed).times)
    assert shown < 40
    result = run(trimmed, tmp_path / "out.mp4", *FAST)
    assert result.code == 0, result.err
    assert f"frames      {shown} of 128x96\n" in result.out
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    cut = run(tmp_path / "cut.mp4", tmp_path / "out2.mp4", *FAST)
    assert "the input ends early" in cut.out
    assert f"of {shown} frames" in cut.out
