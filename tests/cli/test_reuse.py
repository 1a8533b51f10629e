"""Held frames are computed once; the file is the same."""

import json
from pathlib import Path

import av
import numpy as np

from .conftest import Run, frame, luma, make_video


def held(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    return frame(index // 3, width, height, pix_fmt)


def test_held_frames_are_computed_once(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1", picture=held)
    _, kept, told = run.film(source, "kept.mkv")
    assert "67% of the pixels" in told.out
    assert "67% reused" in told.err
    _, every, told = run.film(source, "all.mkv", "--no-reuse", "--json")
    events = [json.loads(line) for line in told.err.splitlines() if line.startswith("{")]
    assert (events[-1]["event"], events[-1]["reused"]) == ("done", None)
    assert kept.times == every.times
    assert all(np.array_equal(luma(a), luma(b)) for a, b in zip(kept.frames, every.frames, strict=True))
