"""Alpha on the command line: kept wherever the encoder can hold it."""

from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.media.formats import planar
from vsaether.media.images import encode, read_image

from .conftest import Run, make_video, read


def half(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A green picture which is opaque on its left, and to a third on its right."""
    picture = np.full((height, width, 4), (30, 160, 60, 255), np.uint8)
    picture[:, width // 2 :, 3] = 85
    return av.VideoFrame.from_ndarray(picture, "rgba").reformat(format=pix_fmt)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "output", "arguments", "stored"),
    [
        ("qtrle", "argb", "out.webm", (), "yuva420p"),
        ("ffv1", "yuva444p", "out.webm", (), "yuva420p"),
        ("ffv1", "yuva422p10le", "out.webm", (), "yuva420p"),
        ("ffv1", "yuva420p10le", "out.webm", (), "yuva420p"),
        ("ffv1", "ya8", "out.webm", (), "yuva420p"),
        ("qtrle", "argb", "out.mov", ("--codec", "prores_ks"), "yuva444p12le"),
        ("ffv1", "yuva420p", "out.mov", ("--codec", "prores_ks"), "yuva444p12le"),
        ("qtrle", "argb", "out.mkv", ("--codec", "ffv1"), "bgra"),
    ],
)
def test_the_default_format_keeps_alpha(
    run: Run, tmp_path: Path, codec: str, pix_fmt: str, output: str, arguments: tuple[str, ...], stored: str
) -> None:
    """Of each encoder which can, whatever the source is; the mask has its two values again."""
    source = make_video(tmp_path / "in.mov", codec="qtrle", pix_fmt="argb", pts=[0, 40], picture=half)
    if codec != "qtrle":
        source = make_video(tmp_path / "in.mkv", codec=codec, pix_fmt=pix_fmt, pts=[0, 40], picture=half)
    fast = ("--encoder-options", "cpu-used=8") if output.endswith(".webm") else ()
    result = run(source, tmp_path / output, *arguments, *fast)
    assert result.code == 0, result.err
    assert "alpha" not in result.err
    after = read(tmp_path / output, decoder="libvpx-vp9" if fast else None)
    assert after.pix_fmt == stored
    mask = after.frames[1].to_ndarray(format="rgba")[:, :, 3].astype(int)
    assert abs(mask[:, 4:58] - 255).max() <= 3
    assert abs(mask[:, 70:124] - 85).max() <= 3


@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "yuva420p10le"), ("prores_ks", "yuva444p10le")])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_alpha_is_left_out_with_a_note_where_the_default_encoder_cannot(
    run: Run, tmp_path: Path, codec: str, pix_fmt: str, suffix: str
) -> None:
    """x265 is built without it as a rule."""
    source = make_video(tmp_path / "in.mkv", codec=codec, pix_fmt=pix_fmt, pts=[0, 40], picture=half)
    result = run(source, tmp_path / f"out{suffix}", "--preset", "ultrafast")
    assert result.code == 0, result.err
    assert "note: libx265 cannot hold the alpha channel" in result.err
    assert "10le" in read(tmp_path / f"out{suffix}").pix_fmt or "12le" in read(tmp_path / f"out{suffix}").pix_fmt


def test_an_unusual_format_is_taken_on_request(run: Run, tmp_path: Path) -> None:
    """With the option of FFmpeg that its own message names."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuva444p", pts=[0, 40], picture=half)
    asked = ("--pix-fmt", "yuva444p", "--encoder-options")
    assert run(source, tmp_path / "out.webm", *asked, "cpu-used=8,strict=experimental").code == 0
    assert read(tmp_path / "out.webm", decoder="libvpx-vp9").frames[0].width == 128


@pytest.mark.parametrize("output", ["out.png", "out.tif"])
def test_float_alpha_does_not_wrap_around(run: Run, tmp_path: Path, output: str, toy_engine: str) -> None:
    """An engine overshoots 1 by a little, which is no code value."""
    mask = np.ones((40, 40), np.float32)
    mask[12:24, 12:24] = 0
    frame = av.VideoFrame(40, 40, "gbrapf32le")
    for plane, samples in zip(frame.planes, (mask * 0.5, mask * 0.2, mask * 0.7, mask), strict=True):
        np.frombuffer(plane, np.float32).reshape(40, -1)[:, :40] = samples
    encoder = av.CodecContext.create("exr", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 40, 40, "gbrapf32le", 1  # type: ignore
    data = b"".join(bytes(packet) for packet in encoder.encode(frame))  # type: ignore
    (tmp_path / "in.exr").write_bytes(data)
    result = run(tmp_path / "in.exr", tmp_path / output, engine=toy_engine)
    assert result.code == 0, result.err
    after = read_image(tmp_path / output).to_ndarray(format="rgba64le")[:, :, 3].astype(int)
    deep = av.VideoFrame.from_ndarray(np.zeros((40, 40, 4), np.uint16), "rgba64le")
    samples = np.frombuffer(deep.planes[0], np.uint16).reshape(40, -1)[:, :160].reshape(40, 40, 4)
    samples[:] = np.rint(np.stack([mask * 0.7, mask * 0.5, mask * 0.2, mask], -1) * 65535)
    (tmp_path / "deep.tif").write_bytes(encode(planar(deep)[0], ".tif")[0])
    assert run(tmp_path / "deep.tif", tmp_path / "expected.png", engine=toy_engine).code == 0
    expected = read_image(tmp_path / "expected.png").to_ndarray(format="rgba64le")[:, :, 3].astype(int)
    assert abs(after - expected).max() <= 32
    assert (after.min(), after.max()) == (0, 65535)
