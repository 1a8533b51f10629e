"""High dynamic range: the signal and its metadata go through, and what does not is said."""

import dataclasses
from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.media.encoders import Encoding
from vsaether.media.formats import Layout
from vsaether.media.settings import Job, carried
from vsaether.media.source import VideoSource

from .conftest import Run, make_video, read
from .dolby import mark

FAST = ("--preset", "ultrafast", "--crf", "4")
PQ, HLG = (9, 9, 16, 1), (9, 9, 18, 1)
STATIC = "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"


def film(path: Path, tags: tuple[int, int, int, int] = PQ, static: bool = True) -> Path:
    """Four frames of 10 bits."""
    params = f"log-level=error:{STATIC}" if static else "log-level=error"
    options = {"x265-params": params, "preset": "ultrafast", "crf": "4"}
    return make_video(path, pts=[0, 40, 80, 120], codec="libx265", pix_fmt="yuv420p10le", tags=tags, options=options)


def levels(path: Path) -> np.ndarray:
    """The mean code of each plane of each frame."""
    frames = read(path).frames
    return np.array([[plane.mean() for plane in Layout.of(f.format.name).planes(f)[0]] for f in frames])


@pytest.mark.parametrize("tags", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_the_signal_is_kept(run: Run, tmp_path: Path, tags: tuple[int, int, int, int], name: str) -> None:
    """The same tags, 10 bits, and on average the same codes: nothing is mapped to another curve or to other levels."""
    source = film(tmp_path / "in.mkv", tags)
    result = run(source, tmp_path / name, *FAST)
    assert result.code == 0, result.err
    before, after = read(source), read(tmp_path / name)
    assert after.tags[:4] == before.tags[:4] == tags
    assert after.pix_fmt == "yuv420p10le"
    assert np.abs(levels(tmp_path / name) - levels(source)).max() < 1
    assert {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} <= after.side_data.keys()
    assert "note" not in result.err


@pytest.mark.parametrize(("codec", "kept"), [("libsvtav1", True), ("ffv1", False)])
def test_static_metadata_by_encoder(run: Run, tmp_path: Path, codec: str, kept: bool) -> None:
    """AV1 is given them; of an encoder that takes none it is said."""
    speed = ("--preset", "12") if codec == "libsvtav1" else ()
    result = run(film(tmp_path / "in.mkv"), tmp_path / "out.mkv", "--codec", codec, *speed)
    assert result.code == 0, result.err
    assert ("MASTERING_DISPLAY_METADATA" in read(tmp_path / "out.mkv").side_data) == kept
    assert ("note" in result.err and "mastering" in result.err) != kept


def test_dolby_vision_with_a_base_layer_of_its_own(run: Run, tmp_path: Path) -> None:
    """The base layer is upscaled as the HDR10 that it is, and a note says what is left out."""
    source = mark(film(tmp_path / "in.mp4", static=False), 8, 1)
    result = run(source, tmp_path / "out.mkv", *FAST)
    assert result.code == 0, result.err
    assert "Dolby Vision" in result.err and "HDR10" in result.err
    assert read(tmp_path / "out.mkv").tags[:4] == PQ


def test_dolby_vision_without_one_is_refused(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Profile 5 is no picture without its metadata: neither upscaled nor compared as if it were."""
    from vsaether.cli import main

    source = mark(film(tmp_path / "in.mp4", static=False), 5, 0)
    result = run(source, tmp_path / "out.mkv", *FAST)
    assert result.code == 1
    assert "profile 5" in result.error and "HDR10" in result.error
    assert not (tmp_path / "out.mkv").exists()
    assert main(["compare", str(source), str(source), "-o", str(tmp_path / "page.html")]) == 1
    assert "profile 5" in capfd.readouterr().err


def test_frames_with_static_metadata_alone_need_no_copy_that_carries_them(tmp_path: Path) -> None:
    """Encoders are told once, and such a copy costs more than the frame; pictures, and who asks for SEI, get it."""
    source = VideoSource(film(tmp_path / "in.mkv"))
    frames = [item[0] for item in source if not isinstance(item, av.Packet)]
    told = {kind.name for each in frames for kind in each.side_data}
    assert told == {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "SEI_UNREGISTERED"}
    assert not any(source.carries(each) for each in frames)
    job = Job(source.path, tmp_path / "out.mkv")
    assert carried(job, source)(frames[0]) is False
    for whole in (
        dataclasses.replace(job, output=tmp_path / "out"),
        dataclasses.replace(job, encoding=Encoding(options={"udu_sei": "1"})),
    ):
        assert carried(whole, source)(frames[0])
    source.close()


def test_pictures_of_a_film_tell_its_static_metadata(run: Run, tmp_path: Path) -> None:
    """PNG files have a place for them (mDCV, cLLI), in each."""
    assert run(film(tmp_path / "in.mkv"), tmp_path / "frames").code == 0
    for path in sorted((tmp_path / "frames").iterdir()):
        data = path.read_bytes()
        assert b"cLLI" in data or b"cLLi" in data
        assert b"mDCV" in data or b"mDCv" in data
