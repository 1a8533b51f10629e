"""--deinterlace: as many frames, at the same times, without combs; progressive ones are left as they are."""

from pathlib import Path

import av
import numpy as np
import pytest

from .conftest import Run, make_video, read

FAST = ("--preset", "ultrafast", "--crf", "1")


def combed(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A bar that moves by 4 pixels from field to field, the top one first."""
    lines = np.full((height, width), 40, np.uint8)
    for row in range(height):
        left = 8 + 8 * index % (width // 2) + 4 * (row % 2)
        lines[row, left : left + 12] = 200
    return av.VideoFrame.from_ndarray(lines, "gray").reformat(format=pix_fmt)


def combs(path: Path) -> float:
    """How much neighbouring rows differ, more than those two apart."""
    with av.open(str(path)) as film:
        shown = [frame.reformat(format="gray").to_ndarray().astype(int) for frame in film.decode(video=0)]
    rows = np.stack(shown[1:-1])
    return float(np.abs(rows[:, 1:] - rows[:, :-1]).mean() - np.abs(rows[:, 2:] - rows[:, :-2]).mean())


@pytest.mark.parametrize("segments", [(), ("--segment", "0.2")])
@pytest.mark.parametrize(("flagged", "mode"), [(True, "flagged"), (False, "top")])
def test_frames_are_made_whole(run: Run, tmp_path: Path, flagged: bool, mode: str, segments: tuple[str, ...]) -> None:
    source = make_video(
        tmp_path / "in.mkv", interlaced=flagged, picture=combed, size=(64, 64), options={"crf": "1"}, audio="aac"
    )
    assert combs(source) > 5
    result = run(source, tmp_path / "out.mkv", *FAST, "--deinterlace", mode, *segments)
    assert result.code == 0, result.err
    before, after = read(source), read(tmp_path / "out.mkv")
    assert (after.interlaced, after.times, after.packets[1]) == (False, before.times, before.packets[1])
    assert combs(tmp_path / "out.mkv") < 0.5
    again = run(source, tmp_path / "as-it-is.mkv", *FAST)
    assert f"--deinterlace {mode}" in again.err


def test_progressive_frames_are_left_as_they_are(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pts=[0, 40, 100, 140], pix_fmt="yuv420p10le", codec="ffv1")
    for name, options in (("a.mkv", ()), ("b.mkv", ("--deinterlace", "flagged"))):
        assert run(source, tmp_path / name, "--codec", "ffv1", *options).code == 0
    assert read(tmp_path / "a.mkv").packets == read(tmp_path / "b.mkv").packets
    assert read(tmp_path / "b.mkv").times == read(source).times
