"""Alpha on the command line: kept wherever the encoder can hold it."""

from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.media.formats import planar
from vsaether.media.images import encode, read_image

from .conftest import Run, make_video


def half(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A green picture which is opaque on its left, and to a third on its right."""
    picture = np.full((height, width, 4), (30, 160, 60, 255), np.uint8)
    picture[:, width // 2 :, 3] = 85
    return av.VideoFrame.from_ndarray(picture, "rgba").reformat(format=pix_fmt)


def film(folder: Path, codec: str, pix_fmt: str) -> Path:
    """Two frames."""
    name = "in.mov" if codec == "qtrle" else "in.mkv"
    return make_video(folder / name, codec=codec, pix_fmt=pix_fmt, pts=[0, 40], picture=half)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "output", "arguments", "stored"),
    [
        ("qtrle", "argb", "out.webm", (), "yuva420p"),
        ("ffv1", "yuva420p", "out.webm", (), "yuva420p"),
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
    _, after, result = run.film(film(tmp_path, codec, pix_fmt), output, *arguments)
    assert "alpha" not in result.err
    assert after.pix_fmt == stored
    mask = after.frames[1].to_ndarray(format="rgba")[:, :, 3].astype(int)
    assert abs(mask[:, 4:58] - 255).max() <= 3
    assert abs(mask[:, 70:124] - 85).max() <= 3


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "encoder", "stored"),
    [
        ("ffv1", "yuva420p", "libx264", "yuv420p"),
        ("ffv1", "yuva420p10le", "libx265", "yuv420p10le"),
        ("prores_ks", "yuva444p10le", "libx265", "yuv444p12le"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_alpha_is_left_out_with_a_note_where_the_default_encoder_cannot(
    run: Run, tmp_path: Path, codec: str, pix_fmt: str, encoder: str, stored: str, suffix: str
) -> None:
    """x265 is built without it as a rule."""
    _, after, result = run.film(film(tmp_path, codec, pix_fmt), f"out{suffix}")
    assert f"note: {encoder} cannot hold the alpha channel" in result.err
    assert after.pix_fmt == stored


def test_an_unusual_format_is_taken_on_request(run: Run, tmp_path: Path) -> None:
    """With the option of FFmpeg that its own message names."""
    options = ("--pix-fmt", "yuva444p", "--encoder-options", "cpu-used=8,strict=experimental")
    run.done(film(tmp_path, "ffv1", "yuva444p"), tmp_path / "out.webm", *options)
    with av.open(str(tmp_path / "out.webm")) as after:
        assert next(after.decode(video=0)).format.name == "yuv444p"


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
    (tmp_path / "in.exr").write_bytes(b"".join(bytes(packet) for packet in encoder.encode(frame)))  # type: ignore
    deep = av.VideoFrame.from_ndarray(np.zeros((40, 40, 4), np.uint16), "rgba64le")
    samples = np.frombuffer(deep.planes[0], np.uint16).reshape(40, -1)[:, :160].reshape(40, 40, 4)
    samples[:] = np.rint(np.stack([mask * 0.7, mask * 0.5, mask * 0.2, mask], -1) * 65535)
    (tmp_path / "deep.tif").write_bytes(encode(planar(deep)[0], ".tif")[0])
    written = []
    for source, name in (("in.exr", output), ("deep.tif", "expected.png")):
        run.done(tmp_path / source, tmp_path / name, engine=toy_engine)
        written.append(read_image(tmp_path / name).to_ndarray(format="rgba64le")[:, :, 3].astype(int))
    assert abs(written[0] - written[1]).max() <= 32
    assert (written[0].min(), written[0].max()) == (0, 65535)
