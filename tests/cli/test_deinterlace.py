"""--deinterlace: as many frames, at the same times, without combs; progressive ones are left as they are."""

from pathlib import Path

import av
import numpy as np
import pytest

from .conftest import Run, luma, make_video, read


def combed(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A bar that moves by 4 pixels from field to field, the top one first."""
    lines = np.full((height, width), 40, np.uint8)
    for row in range(height):
        left = 8 + 8 * index % (width // 2) + 4 * (row % 2)
        lines[row, left : left + 12] = 200
    return av.VideoFrame.from_ndarray(lines, "gray").reformat(format=pix_fmt)


def combs(path: Path) -> float:
    """How much neighbouring rows differ, more than those two apart."""
    rows = np.stack([luma(shown) for shown in read(path).frames[1:-1]])
    return float(np.abs(rows[:, 1:] - rows[:, :-1]).mean() - np.abs(rows[:, 2:] - rows[:, :-2]).mean())


@pytest.mark.parametrize("segments", [(), ("--segment", "0.2")])
@pytest.mark.parametrize(("flagged", "mode"), [(True, "flagged"), (False, "top")])
def test_frames_are_made_whole(run: Run, tmp_path: Path, flagged: bool, mode: str, segments: tuple[str, ...]) -> None:
    film = {"interlaced": flagged, "picture": combed, "size": (64, 64), "options": {"crf": "1"}}
    source = make_video(tmp_path / "in.mkv", audio="aac", **film)
    before, after, _ = run.film(source, "out.mkv", "--crf", "1", "--deinterlace", mode, *segments)
    assert (after.interlaced, after.times, after.packets[1]) == (False, before.times, before.packets[1])
    assert combs(source) > 5
    assert combs(tmp_path / "out.mkv") < 0.5
    assert f"--deinterlace {mode}" in run.film(source, "as-it-is.mkv", "--crf", "1")[2].err


def test_progressive_frames_are_left_as_they_are(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[0, 40, 100, 140], pix_fmt="yuv420p10le", codec="ffv1")
    before, after, _ = run.film(source, "a.mkv", "--codec", "ffv1", "--deinterlace", "flagged")
    run.done(source, tmp_path / "b.mkv", "--codec", "ffv1")
    same = read(tmp_path / "b.mkv")
    assert all(np.array_equal(luma(a), luma(b)) for a, b in zip(after.frames, same.frames, strict=True))
    assert after.times == same.times == before.times
