"""Films that are hard to cut: in segments, stopped and gone on with, they are those of one pass."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import VFR, Run, make_video, read
from .test_changes import parts
from .test_resume import scenes, stop_after

LOSSLESS = ("--codec", "ffv1", "--backend", "ov")
TIMES = [40 * i for i in range(45)]
FAST = {"preset": "ultrafast"}


def cut_off(folder: Path) -> Path:
    whole = make_video(folder / "whole.mkv", pts=TIMES, picture=scenes, audio="aac", options={"g": "10"})
    (folder / "in.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    return folder / "in.mkv"


def corrupt(folder: Path) -> Path:
    """Bits of some frames are others, midway; those behind are decoded all the same."""
    whole = make_video(folder / "whole.ts", pts=TIMES, picture=scenes, audio="mp2", options={"g": "10", **FAST})
    data = bytearray(whole.read_bytes())
    for place in range(len(data) // 3, len(data) // 2, 1501):
        data[place] ^= 0x55
    (folder / "in.ts").write_bytes(data)
    return folder / "in.ts"


def edited(folder: Path) -> Path:
    """An edit list leaves the first 0.3 seconds out, in the middle of a GOP."""
    whole = make_video(folder / "whole.mp4", pts=TIMES, picture=scenes, audio="aac", options={"g": "50", "bf": "2"})
    data = bytearray(whole.read_bytes())
    at = data.index(b"elst") + 12
    length, media = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (0, 4))
    data[at : at + 8] = (length * 14 // 18).to_bytes(4, "big") + (media + 16000 * 300 // 1000 + 77).to_bytes(4, "big")
    (folder / "in.mp4").write_bytes(data)
    return folder / "in.mp4"


def interlaced(folder: Path) -> Path:
    return make_video(folder / "in.mkv", pts=TIMES, size=(64, 64), interlaced=True, picture=scenes, audio="aac")


def two_sizes(folder: Path) -> Path:
    return parts(folder, {"picture": scenes}, {"picture": scenes, "size": (96, 80)}, {"picture": scenes})


def uneven(folder: Path) -> Path:
    times = [time + 1600 * part for part in range(4) for time in VFR]
    return make_video(folder / "in.mkv", pts=times, picture=scenes, audio="aac", options={"bf": "2"})


@pytest.mark.parametrize("make", [cut_off, corrupt, edited, interlaced, two_sizes, uneven])
def test_segments_are_one_pass(
    run: Run, tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames, times and sound to the bit; and the same is said of what is damaged, missing, or changes."""
    source, once, out = make(tmp_path), tmp_path / "once.mkv", tmp_path / "out.mkv"
    single = run(source, once, *LOSSLESS, "--no-resume")
    assert single.code == 0, single.err
    with monkeypatch.context() as patch:
        stop_after(patch, 25, lambda: OSError(5, "Input/output error", "disk"))
        assert "are kept" in run(source, out, *LOSSLESS, "--segment", "0.5").err
    result = run(source, out, *LOSSLESS, "--segment", "0.5")
    assert result.code == 0, result.err
    assert "of them done before" in result.out
    whole, joined = read(once), read(out)
    for name in ("times", "durations", "packets", "kinds", "size", "aspect", "interlaced"):
        assert getattr(joined, name) == getattr(whole, name), name
    for a, b in zip(whole.frames, joined.frames, strict=True):
        np.testing.assert_array_equal(a.to_ndarray(), b.to_ndarray())
    for text in single.err.splitlines():
        assert "note: " not in text or text in result.err
    assert ("ends early" in single.out) == ("ends early" in result.out) == (make is cut_off)
