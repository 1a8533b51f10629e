"""Held frames are computed once; the file is the same."""

import json
from pathlib import Path

import av

from .conftest import Run, frame, make_video, read


def held(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A picture that changes with every third frame."""
    return frame(index // 3, width, height, pix_fmt)


def test_held_frames_are_computed_once(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", picture=held)
    kept = run(source, tmp_path / "kept.mkv", "--preset", "ultrafast")
    assert "67% of the pixels" in kept.out
    assert "67% reused" in kept.err
    every = run(source, tmp_path / "all.mkv", "--preset", "ultrafast", "--no-reuse", "--json")
    events = [json.loads(line) for line in every.err.splitlines() if line.startswith("{")]
    assert (events[-1]["event"], events[-1]["reused"]) == ("done", None)
    assert read(tmp_path / "kept.mkv").packets == read(tmp_path / "all.mkv").packets
