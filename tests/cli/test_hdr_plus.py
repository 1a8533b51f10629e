"""HDR10+: the signal and HDR10's static metadata go through; those of single scenes do not, and a note says so."""

from fractions import Fraction
from pathlib import Path

import av

from vsaether.media.source import VideoSource

from .conftest import Run, make_video, read
from .test_hdr import PQ, STATIC


def message(peak: int) -> bytes:
    """An ITU-T T.35 message of SMPTE ST 2094-40: one window, its largest values, one percentile."""
    fields = [(1, 2), (400, 27), (0, 1), (peak, 17), (peak, 17), (peak, 17), (peak // 2, 17)]
    fields += [(1, 4), (99, 7), (peak, 17), (0, 10), (0, 1), (0, 1), (0, 1)]
    bits = "".join(f"{value:0{size}b}" for value, size in fields)
    bits += "0" * (-len(bits) % 8)
    return bytes([0xB5, 0, 0x3C, 0, 1, 4, 1]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def supplement(payload: bytes) -> bytes:
    """A message as a NAL unit of HEVC: SEI before the picture, with the bytes that keep a start code from appearing."""
    unit, zeros = bytearray(b"\0\0\0\1\x4e\1"), 0
    for byte in bytes([4, len(payload)]) + payload + b"\x80":
        if zeros >= 2 and byte <= 3:
            unit.append(3)
            zeros = 0
        unit.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(unit)


def film(folder: Path) -> Path:
    """Four frames of HDR10, each with HDR10+ besides."""
    options = {"x265-params": f"log-level=error:repeat-headers=1:{STATIC}", "preset": "ultrafast"}
    plain = make_video(
        folder / "plain.ts", pts=[0, 40, 80, 120], codec="libx265", pix_fmt="yuv420p10le", tags=PQ, options=options
    )
    path = folder / "plus.ts"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(each for each in source.demux() if each.size):
            made = av.Packet(supplement(message(1000 + number)) + bytes(packet))
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, Fraction(1, 90000)
            made.stream, made.is_keyframe = stream, packet.is_keyframe
            out.mux(made)
    return path


def test_the_note_says_what_is_left_out_and_what_stays(run: Run, tmp_path: Path) -> None:
    source = film(tmp_path)
    assert {"DYNAMIC_HDR_PLUS", "CONTENT_LIGHT_LEVEL"} <= read(source).side_data.keys()
    for codec, stays in (("libx265", True), ("ffv1", False)):
        result = run(source, tmp_path / f"{codec}.mkv", "--codec", codec, *(("--preset", "ultrafast") if stays else ()))
        assert result.code == 0, result.err
        (note,) = (line for line in result.err.splitlines() if "HDR10+" in line)
        assert "left out" in note
        assert ("static" in note) == stays
        after = read(tmp_path / f"{codec}.mkv")
        assert ("MASTERING_DISPLAY_METADATA" in after.side_data) == stays
        assert (after.tags[:4], after.pix_fmt) == (PQ, "yuv420p10le")


def test_frames_with_metadata_that_no_encoder_takes_are_lent_as_others(tmp_path: Path) -> None:
    source = VideoSource(film(tmp_path))
    assert source.info.dynamic == ("HDR10+",)
    assert not any(source.carries(item[0]) for item in source if not isinstance(item, av.Packet))
    source.close()
