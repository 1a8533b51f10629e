"""Inputs which are not whole, regular files: pipes, damaged films, films that end early."""

import os
import struct
import threading
from pathlib import Path
from typing import Any

import av
import pytest

from .conftest import FAST, Run, make_video, read


@pytest.mark.parametrize(("suffix", "frames"), [(".ts", 100), (".ts", 5), (".mkv", 40)])
def test_a_pipe_is_read_once(run: Run, tmp_path: Path, suffix: str, frames: int) -> None:
    source = make_video(tmp_path / f"in{suffix}", pts=[40 * i for i in range(frames)], size=(32, 24), audio="aac")
    pipe = tmp_path / "pipe"
    _, same, _ = run.film(source, "same.mkv")
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[source.read_bytes()], daemon=True).start()
    run.done(pipe, tmp_path / "out.mkv", *FAST)
    piped = read(tmp_path / "out.mkv")
    assert len(piped.times) == frames
    assert (piped.times, piped.packets) == (same.times, same.packets)


def test_damaged_frames_are_counted(run: Run, tmp_path: Path) -> None:
    """The decoder makes what it can of them, and says which they are: so does a note."""
    source = make_video(tmp_path / "in.mkv", size=(320, 240), codec="mpeg4", pts=[0, 40, 80, 120])
    with av.open(str(source)) as file:
        _, *packets = (bytes(packet) for packet in file.demux(video=0) if packet.size)
    victim, data = max(packets, key=len), source.read_bytes()
    lost = victim[len(victim) * 2 // 3 :]
    (tmp_path / "bad.mkv").write_bytes(data.replace(lost, b"\x55" * len(lost)))
    before, _, result = run.film(tmp_path / "bad.mkv")
    broken = sum(shown.is_corrupt for shown in before.frames)
    assert broken
    assert f"note: {broken} frames of the input are damaged" in result.err
    assert "damaged" not in run.film(source, "whole.mkv")[2].err


@pytest.mark.parametrize(
    ("suffix", "part", "audio"),
    [
        *((".mkv", part, audio) for part, audio in ((0.35, "aac"), (0.6, None), (0.9, None))),
        (".flv", 0.5, "aac"),
        (".avi", 0.6, "mp3"),
        (".mp4", 0.66, None),
    ],
)
def test_a_file_which_is_cut_off_is_told(run: Run, tmp_path: Path, suffix: str, part: float, audio: str | None) -> None:
    """What is there is upscaled; its header says how much is missing; not where only a part was asked for."""
    film: dict[str, Any] = {"codec": "mpeg4"} if suffix == ".avi" else {"options": {"bf": "2", "g": "12"}}
    start = {"movflags": "faststart"} if suffix == ".mp4" else {}
    source, cut = tmp_path / f"in{suffix}", tmp_path / f"cut{suffix}"
    make_video(source, pts=[40 * i for i in range(50)], size=(32, 24), audio=audio, container_options=start, **film)
    cut.write_bytes(source.read_bytes()[: int(source.stat().st_size * part)])
    result = run.done(cut, tmp_path / "out.mkv", *FAST)
    there = len(read(tmp_path / "out.mkv").times)
    assert 0 < there < 50
    assert f"the input ends early: {there} of" in result.out
    if suffix != ".avi":  # PyAV's has one frame a millisecond
        assert abs(int(result.out.partition("ends early: ")[2].split()[2]) - 50) <= 2
    assert "ends early" not in run.film(source, "whole.mkv")[2].out
    assert "ends early" not in run.done(cut, tmp_path / "part.mkv", *FAST, "--limit", "2").out


def test_a_film_trimmed_by_an_edit_list_is_whole(run: Run, tmp_path: Path) -> None:
    """What the list leaves out is not missing; what lies behind the end of the file is."""
    film: dict[str, Any] = {"options": {"g": "50", "bf": "2"}, "container_options": {"movflags": "faststart"}}
    source = make_video(tmp_path / "in.mp4", pts=[40 * i for i in range(50)], **film)
    data = bytearray(source.read_bytes())
    at = data.index(b"elst") + 4
    entries, duration, media = struct.unpack_from(">3I", data, at + 4)
    assert (entries, duration) == (1, 2000)
    struct.pack_into(">2I", data, at + 8, 1430, media + 16000 * 300 // 1000 + 77)  # milliseconds, and ticks
    source.write_bytes(data)
    before, _, result = run.film(source, "out.mp4")
    shown = len(before.times)
    assert shown < 40
    assert f"frames      {shown} of 128x96\n" in result.out
    source.write_bytes(data[: len(data) * 2 // 3])
    cut = run.done(source, tmp_path / "out2.mp4", *FAST).out
    assert "the input ends early" in cut and f"of {shown} frames" in cut
