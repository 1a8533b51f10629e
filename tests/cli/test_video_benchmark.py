"""benchmarks.video on the bundled clip: what it writes, and that it measures the picture."""

import json
import sys
from pathlib import Path

import pytest
import vapoursynth as vs

from benchmarks import video
from vsaether.report.demo import bundled_clip


def test_engines_on_compressed_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "ENCODINGS", {name: video.ENCODINGS[name] for name in ("H.264 CRF 18", "H.264 CRF 28")})
    monkeypatch.setattr(video, "SHOWN", "H.264 CRF 28")
    with bundled_clip() as clip:
        argv = ["video", "--clip", str(clip), "--height", "120", "--frames", "3", "--docs", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [*argv, "tiny_2x_int8"])
        assert video.main() == 0
    psnr = json.loads((tmp_path / "video.json").read_text())["psnr_y"]
    good, bad = (psnr[name][clip.name] for name in ("H.264 CRF 18", "H.264 CRF 28"))
    for name in ("bicubic", "tiny_2x_int8"):
        assert 20 < bad[name] < good[name] - 0.5 < 45
    assert f"| {clip.name} | " in (tmp_path / "video.md").read_text()
    assert (tmp_path / "video.webp").stat().st_size > 5_000


def test_luma_psnr_is_that_of_the_code_values() -> None:
    black, grey = (
        video.core.std.BlankClip(format=vs.YUV420P8, width=32, height=32, length=2, color=[luma, 128, 128])
        for luma in (16, 26)
    )
    assert video.luma_psnr(black, grey) == pytest.approx(28.1308, abs=1e-3)  # 20 log10(255 / 10)
