"""The benchmarks of reliability and of videos see what is wrong, and measure the picture."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import vapoursynth as vs

from benchmarks import fuzz, reliability, soak, video
from vsaether.report.demo import bundled_clip

MIB = 1 << 20


def test_each_frame_tells_its_number(tmp_path: Path) -> None:
    """Enlarged, too; and a film in which one is missing is found out."""
    for number in (0, 1, 4711, 65535):
        shown = soak.picture(number)
        assert soak.number_in(shown) == number
        assert soak.number_in(shown.reformat(128, 96)) == number
    path = tmp_path / "film.mkv"
    soak.make(path, 12)
    assert soak.lost(path, 12) == 0
    assert soak.lost(path, 13) == 1


def test_growth_is_told_from_noise() -> None:
    """What comes and goes is none; one byte in fifty more at the end is."""
    noise = [(number, (100 + number % 7) * MIB) for number in range(1000)]
    assert abs(soak.growth(noise, 1000)[1]) < 1e-6
    leak = [(number, held + number * MIB // 250) for number, held in noise]
    assert soak.growth(leak, 1000)[1] == pytest.approx(3.2 / 105, rel=0.1)
    with pytest.raises(SystemExit):
        soak.growth(noise[:50], 50)


def test_the_fuzzer_finds_what_breaks_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good and bad command lines pass; a traceback, two reasons, a wrong exit code and a changed input do not."""
    from vsaether import cli

    files = [(".png", fuzz.corpus()[".png"]), (".txt", b"text")]
    assert fuzz.check(["info", "b"], files) == "refused with a reason"
    assert fuzz.check(["upscale", "a", "out.png", "--engine", "none"], files) == "refused with a reason"
    assert fuzz.check(["compare", "a", "a", "-o", "page.html"], files) == "done"
    assert fuzz.check(["--none"], files) == "wrong command line"
    counted, failures = fuzz.one_round(0, 8)  # each time the same
    assert failures == []
    assert counted["with sound files"] + counted["with damaged files"] >= 8

    def broken(words: list[str]) -> int:
        if words[0] == "crash":
            raise RuntimeError
        if words[0] == "overwrite":
            Path(words[1]).write_bytes(b"")
        return int(words[0]) if words[0].isdigit() else 0

    monkeypatch.setattr(cli, "main", broken)
    for words in (["7"], ["1"], ["crash"], ["overwrite", "a"]):
        with pytest.raises((AssertionError, RuntimeError)):
            fuzz.check(words, files)


def test_the_page_has_all_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A section takes the place of the old one of its key; the page committed is made from the figures committed."""
    committed = reliability.RESULTS
    known = json.loads((committed / "reliability.json").read_text("utf-8"))
    assert (committed / "reliability.md").read_text("utf-8") == reliability.page(known)
    shutil.copy(committed / "reliability.json", tmp_path)
    monkeypatch.setattr(reliability, "RESULTS", tmp_path)
    for figure in (1, 2):
        reliability.record("zz", "Last", "python -m last", "What was done.", {"lost": figure})
    made = (tmp_path / "reliability.md").read_text("utf-8")
    assert made.count("## Last") == 1 and "| lost | 2 |" in made
    assert made.startswith(reliability.page(known).rstrip()[:100])


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
