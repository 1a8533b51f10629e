"""High dynamic range: the signal and its metadata go through, and what does not is said."""

import dataclasses
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vsaether.cli import main
from vsaether.media.encoders import Encoding
from vsaether.media.settings import Job, carried
from vsaether.media.source import VideoSource

from .conftest import FAST, Film, Run, luma, make_video

PQ, HLG = (9, 9, 16, 1), (9, 9, 18, 1)
STATIC = "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"

PLUS = bytes.fromhex("000000014e010419b5003c0001040140000c8007d003e801f4007d07180fa0000080")
"""SEI of HEVC with SMPTE ST 2094-40 in ITU-T T.35: one window, its largest values, one percentile."""

WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1")
AHEAD = {b"stsd": 8, b"hev1": 78}  # bytes of a box before the boxes in it


def film(path: Path, tags: tuple[int, int, int, int] = PQ, params: str = STATIC) -> Path:
    options = {"x265-params": f"log-level=error:{params}", "preset": "ultrafast", "crf": "4"}
    return make_video(path, pts=[0, 40, 80, 120], codec="libx265", pix_fmt="yuv420p10le", tags=tags, options=options)


def boxes(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    while at < end:
        size, kind = struct.unpack_from(">I4s", data, at)
        yield at, size, kind
        at += size


def mark(path: Path, profile: int, compatibility: int) -> Path:
    """Say in an MP4 of HEVC, whose index is at its end, that it is Dolby Vision (dvcC, dvvC); FFmpeg would not."""
    data = bytearray(path.read_bytes())
    at, end, way = 0, len(data), []
    for wanted in WAY:
        at, size = next((at, size) for at, size, kind in boxes(data, at, end) if kind == wanted)
        way.append(at)
        at, end = at + 8 + AHEAD.get(wanted, 0), at + size
    flags = profile << 9 | 1 << 3 | 0b101  # level 1; metadata and base layer are there
    record = struct.pack(">BBHB19x", 1, 0, flags, compatibility << 4)
    box = struct.pack(">I4s", 8 + len(record), b"dvvC" if profile > 7 else b"dvcC") + record
    data[end:end] = box
    for place in way:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(box))
    path.write_bytes(data)
    return path


def static(told: Film) -> list[float]:
    """The mastering display's primaries and luminances, and the content light levels."""
    display = struct.unpack("=20i", told.side_data["MASTERING_DISPLAY_METADATA"][:80])
    light = struct.unpack("=2i", told.side_data["CONTENT_LIGHT_LEVEL"][:8])
    return [*(a / b for a, b in zip(display[0::2], display[1::2], strict=True)), *light]


@pytest.mark.parametrize("tags", [PQ, HLG], ids=["PQ", "HLG"])
@pytest.mark.parametrize(("name", "codec"), [("out.mkv", "libx265"), ("out.mp4", "libx265"), ("out.mkv", "libx264")])
def test_the_signal_is_kept(run: Run, tmp_path: Path, tags: tuple[int, int, int, int], name: str, codec: str) -> None:
    """The same tags, 10 bits, and on average the same codes: nothing is mapped to another curve or to other levels."""
    options = ("--codec", codec, *FAST, "--crf", "4")
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
    speed = ("--preset", "12") if codec == "libsvtav1" else ()
    _, after, result = run.film(film(tmp_path / "in.mkv"), "out.mkv", "--codec", codec, *speed)
    assert ("MASTERING_DISPLAY_METADATA" in after.side_data) == kept
    assert ("note" in result.err and "mastering" in result.err) != kept


def test_encoder_options_hold_commas(run: Run, tmp_path: Path) -> None:
    """A comma ends a value only where another name follows."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuv420p10le", pts=[0])
    _, after, _ = run.film(source, "out.mkv", "--encoder-options", f"x265-params={STATIC},forced-idr=1")
    assert static(after)[-2:] == [1000, 400]


def test_dolby_vision(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A base layer is upscaled as the HDR10 that it is, with a note; profile 5 is no picture without its metadata."""
    _, after, result = run.film(mark(film(tmp_path / "in.mp4", params=""), 8, 1))
    assert "Dolby Vision" in result.err and "HDR10" in result.err
    assert after.tags[:4] == PQ
    source = mark(film(tmp_path / "in.mp4", params=""), 5, 0)
    error = run.refused(source, tmp_path / "out2.mkv")
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


def plus(folder: Path) -> Path:
    path = folder / "plus.ts"
    plain = film(folder / "plain.ts", params=f"repeat-headers=1:{STATIC}")
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in (each for each in source.demux() if each.size):
            made = av.Packet(PLUS + bytes(packet))
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, Fraction(1, 90000)
            made.stream, made.is_keyframe = stream, packet.is_keyframe
            out.mux(made)
    return path


@pytest.mark.parametrize(("codec", "stays"), [("libx265", True), ("ffv1", False)])
def test_of_hdr10_plus_the_note_says_what_is_left_out_and_what_stays(
    run: Run, tmp_path: Path, codec: str, stays: bool
) -> None:
    options = ("--codec", codec, *(FAST if stays else ()))
    before, after, result = run.film(plus(tmp_path), "out.mkv", *options)
    assert {"DYNAMIC_HDR_PLUS", "CONTENT_LIGHT_LEVEL"} <= before.side_data.keys()
    (note,) = (line for line in result.err.splitlines() if "HDR10+" in line)
    assert "left out" in note
    assert ("static" in note) == ("MASTERING_DISPLAY_METADATA" in after.side_data) == stays
    assert (after.tags[:4], after.pix_fmt) == (PQ, "yuv420p10le")


def test_frames_with_metadata_that_no_encoder_takes_are_lent_as_others(tmp_path: Path) -> None:
    source = VideoSource(plus(tmp_path))
    assert source.info.dynamic == ("HDR10+",)
    assert not any(source.carries(item[0]) for item in source if not isinstance(item, av.Packet))
    source.close()
