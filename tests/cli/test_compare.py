"""``vsaether compare`` and ``vsaether preview``: what is measured and shown, and of which frames."""

# pyright: reportAttributeAccessIssue=false

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
import vapoursynth as vs

from vsaether.cli import main
from vsaether.media.images import read_image
from vsaether.report import compare as module
from vsaether.report.compare import spread
from vsaether.report.frames import Frames
from vsaether.report.metrics import Meter
from vsaether.report.pictures import png

from .conftest import frame, luma, make_video


def coarse(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """The usual picture with 4 for 0 in its least bits."""
    picture = frame(index, width, height, pix_fmt)
    samples = np.frombuffer(memoryview(picture.planes[0]), np.uint8)  # type: ignore[arg-type]
    samples[:] = samples | 4
    return picture


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A film of 12 frames, and the same with coarser luma; both coded without loss."""
    a = make_video(tmp_path / "a.mkv", codec="ffv1")
    return a, make_video(tmp_path / "b.mkv", codec="ffv1", picture=coarse)


def data(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def compare(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


def preview(*arguments: object) -> int:
    return main(["preview", *map(str, arguments)])


def test_metrics_of_two_films(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert compare(*pair, "-o", page, "--frames", 3) == 0
    known = data(page)
    assert [each["number"] for each in known["frames"]] == [2, 6, 10]
    for each in known["frames"]:
        a = luma(frame(each["number"], 64, 48))
        b = a | 4
        assert each["metrics"][0]["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((a - b) ** 2)), abs=1e-3)
        assert 0 < each["metrics"][0]["ssim"] < 1
    assert {"psnr", "ssim", "xpsnr", "ssimulacra2"} == known["means"][0].keys()
    assert str(page) in capsys.readouterr().out
    assert compare(*pair, "--reference", pair[0], "-o", page, "--overwrite") == 0
    means = data(page)["means"]
    assert means[0]["psnr"] is None and means[0]["ssim"] == 1
    assert means[1]["psnr"] < 50


def test_sizes_that_differ(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = make_video(tmp_path / "large.mkv", size=(128, 96))
    page = tmp_path / "page.html"
    assert compare(pair[0], large, "-o", page) == 1
    told = capsys.readouterr().err
    assert "64x48" in told and "128x96" in told and "--resize" in told
    assert not page.exists()
    assert compare(pair[0], large, "-o", page, "--resize", "--frames", 1) == 0
    assert "128x96" in capsys.readouterr().err
    assert data(page)["size"] == [128, 96]
    wide = make_video(tmp_path / "wide.mkv", size=(128, 48))
    assert compare(pair[0], wide, "-o", tmp_path / "no.html", "--resize") == 1


def test_a_page_stays_small(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many pictures every second one is left out; all frames are measured."""
    page = tmp_path / "page.html"
    monkeypatch.setattr(module, "_MIB", 40_000)
    assert compare(*pair, "-o", page, "--max-size", 1) == 0
    frames = data(page)["frames"]
    assert len(frames) == 12
    assert [each["shown"] for each in frames].count(True) in (3, 6)
    assert "--max-size" in capsys.readouterr().err
    assert sum(map(len, re.findall(r'id="picture[^>]*>([^<]*)<', page.read_text("utf-8")))) <= 40_000


def test_frames_by_number(tmp_path: Path) -> None:
    path = make_video(tmp_path / "in.mp4", pts=[40 * i for i in range(40)], options={"g": "8", "bf": "3"})
    with av.open(str(path)) as container:
        whole = [each.to_ndarray() for each in container.decode(video=0)]
    for numbers in (range(40), (3, 17, 18, 37), (39,)):
        frames = Frames(path)
        assert len(frames) == len(whole)
        assert all(np.array_equal(frames.frame(number).to_ndarray(), whole[number]) for number in numbers)
        frames.close()
    assert [frames.number(frames.time(number) or 0) for number in (0, 7, 39)] == [0, 7, 39]  # type: ignore[arg-type]


def test_spread_and_formats() -> None:
    """The middles of equal parts; 8 bits are compared with 10, and RGB with YUV, without a difference of their own."""
    assert spread(100, 4) == [12, 37, 62, 87]
    assert spread(3, 24) == [0, 1, 2]
    core = vs.core
    rgb = core.std.BlankClip(width=64, height=48, format=vs.RGB24, color=[200, 100, 50], length=1)
    yuv = rgb.resize.Bicubic(format=vs.YUV444P10, matrix=1)
    assert Meter([rgb, yuv]).measure(rgb, yuv)["psnr"] > 70
    hdr = yuv.std.SetFrameProps(_Transfer=16, _Primaries=9)
    assert "ssimulacra2" not in Meter([hdr, hdr]).measure(hdr, hdr)
    assert b"cICP\x09\x10\x00\x01" in png(hdr)
    assert b"cICP" not in png(yuv)


def picture(path: Path) -> np.ndarray:
    return read_image(path).to_ndarray(format="rgb24").astype(int)


def test_pictures_of_two_times(identity_engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_video(tmp_path / "in.mkv", codec="ffv1")
    folder = tmp_path / "pictures"
    assert preview(source, "--at", "0.1", "00:00:00.4", "-o", folder, "--engine", identity_engine) == 0
    told = capsys.readouterr().out.split()
    names = [f"in_{number:06d}_{kind}.png" for number in (2, 10) for kind in ("source", "bicubic", "result", "detail")]
    assert told == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    shown = picture(folder / "in_000010_source.png")
    far = [np.abs(shown - frame(index, 64, 48).to_ndarray(format="rgb24")).mean() for index in range(12)]
    assert int(np.argmin(far)) == 10
    for kind in ("result", "bicubic"):
        assert picture(folder / f"in_000010_{kind}.png").shape == (96, 128, 3)


def test_an_image_of_odd_size(identity_engine: str, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    frame(0, 31, 21, "rgb24").save(str(source))
    assert preview(source, "-o", tmp_path / "out", "--engine", identity_engine, "--crop", "10x8+20+12") == 0
    assert picture(tmp_path / "out" / "in_result.png").shape == (42, 62, 3)
    assert picture(tmp_path / "out" / "in_detail.png").shape == (16 * 24, 3 * 20 * 24, 3)
    narrow = ("-o", tmp_path / "out", "--overwrite", "--engine", identity_engine, "--crop", "31x1+0+0")
    assert preview(source, *narrow) == 0
    assert picture(tmp_path / "out" / "in_detail.png").shape[1] == 3 * 62 * 8
