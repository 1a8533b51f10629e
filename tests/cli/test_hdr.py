"""High dynamic range: the signal and its metadata go through, and what does not is said."""

import dataclasses
import struct
from pathlib import Path

import av
import pytest

from vsaether.cli import main
from vsaether.media.encoders import Encoding
from vsaether.media.settings import Job, carried
from vsaether.media.source import VideoSource

from .conftest import Film, Run, luma, make_video
from .dolby import mark

PQ, HLG = (9, 9, 16, 1), (9, 9, 18, 1)
STATIC = "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"


def film(path: Path, tags: tuple[int, int, int, int] = PQ, static: bool = True) -> Path:
    """Four frames of 10 bits."""
    params = f"log-level=error:{STATIC}" if static else "log-level=error"
    options = {"x265-params": params, "preset": "ultrafast", "crf": "4"}
    return make_video(path, pts=[0, 40, 80, 120], codec="libx265", pix_fmt="yuv420p10le", tags=tags, options=options)


def static(told: Film) -> list[float]:
    """The mastering display's primaries and luminances, and the content light levels."""
    display = struct.unpack("=20i", told.side_data["MASTERING_DISPLAY_METADATA"][:80])
    light = struct.unpack("=2i", told.side_data["CONTENT_LIGHT_LEVEL"][:8])
    return [*(a / b for a, b in zip(display[0::2], display[1::2], strict=True)), *light]


@pytest.mark.parametrize("tags", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize(("name", "codec"), [("out.mkv", "libx265"), ("out.mp4", "libx265"), ("out.mkv", "libx264")])
def test_the_signal_is_kept(run: Run, tmp_path: Path, tags: tuple[int, int, int, int], name: str, codec: str) -> None:
    """The same tags, 10 bits, and on average the same codes: nothing is mapped to another curve or to other levels."""
    options = ("--codec", codec, "--preset", "ultrafast", "--crf", "4")
    before, after, result = run.film(film(tmp_path / "in.mkv", tags), name, *options)
    assert after.tags[:4] == before.tags[:4] == tags
    assert after.pix_fmt == "yuv420p10le"
    for small, large in zip(before.frames, after.frames, strict=True):
        assert abs(luma(large).mean() - luma(small).mean()) < 1
    assert static(after) == pytest.approx(static(before))
    assert static(after)[-2:] == [1000, 400]
    assert "note" not in result.err


@pytest.mark.parametrize(("codec", "kept"), [("libsvtav1", True), ("ffv1", False)])
def test_static_metadata_by_encoder(run: Run, tmp_path: Path, codec: str, kept: bool) -> None:
    """AV1 is given them; of an encoder that takes none it is said."""
    speed = ("--preset", "12") if codec == "libsvtav1" else ()
    _, after, result = run.film(film(tmp_path / "in.mkv"), "out.mkv", "--codec", codec, *speed)
    assert ("MASTERING_DISPLAY_METADATA" in after.side_data) == kept
    assert ("note" in result.err and "mastering" in result.err) != kept


def test_encoder_options_hold_commas(run: Run, tmp_path: Path) -> None:
    """A comma ends a value only where another name follows."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le", pts=[0])
    _, after, _ = run.film(source, "out.mkv", "--encoder-options", f"x265-params={STATIC},forced-idr=1")
    assert static(after)[-2:] == [1000, 400]


def test_dolby_vision_with_a_base_layer_of_its_own(run: Run, tmp_path: Path) -> None:
    """The base layer is upscaled as the HDR10 that it is, and a note says what is left out."""
    _, after, result = run.film(mark(film(tmp_path / "in.mp4", static=False), 8, 1))
    assert "Dolby Vision" in result.err and "HDR10" in result.err
    assert after.tags[:4] == PQ


def test_dolby_vision_without_one_is_refused(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Profile 5 is no picture without its metadata: neither upscaled nor compared as if it were."""
    source = mark(film(tmp_path / "in.mp4", static=False), 5, 0)
    error = run.refused(source, tmp_path / "out.mkv")
    assert "profile 5" in error and "HDR10" in error
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
    for other in ({"output": tmp_path / "out"}, {"encoding": Encoding(options={"udu_sei": "1"})}):
        assert carried(dataclasses.replace(job, **other), source)(frames[0])
    source.close()


def test_pictures_of_a_film_tell_its_static_metadata(run: Run, tmp_path: Path) -> None:
    """PNG files have a place for them (mDCV, cLLI), in each."""
    run.done(film(tmp_path / "in.mkv"), tmp_path / "frames")
    written = [path.read_bytes().lower() for path in (tmp_path / "frames").iterdir()]
    assert [b"clli" in data and b"mdcv" in data for data in written] == [True] * 4
