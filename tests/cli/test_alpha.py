"""Alpha on the command line: kept wherever the encoder can hold it."""

from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.media.images import encode, read_image

from .conftest import Run, make_video

PRORES = ("--codec", "prores_ks")
UNUSUAL = ("--pix-fmt", "yuva444p", "--encoder-options", "cpu-used=8,strict=experimental")


def half(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """A green picture which is opaque on its left, and to a third on its right."""
    picture = np.full((height, width, 4), (30, 160, 60, 255), np.uint8)
    picture[:, width // 2 :, 3] = 85
    return av.VideoFrame.from_ndarray(picture, "rgba").reformat(format=pix_fmt)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "output", "arguments", "stored"),
    [
        ("qtrle", "argb", "out.webm", (), "yuva420p"),
        *(("ffv1", f"yuva{kind}", "out.webm", (), "yuva420p") for kind in ("420p", "444p", "422p10le", "420p10le")),
        ("ffv1", "ya8", "out.webm", (), "yuva420p"),
        ("ffv1", "yuva444p", "out.webm", UNUSUAL, "yuva444p"),  # with an option that FFmpeg's own message names
        ("qtrle", "argb", "out.mov", PRORES, "yuva444p12le"),
        ("ffv1", "yuva420p", "out.mov", PRORES, "yuva444p12le"),
        ("qtrle", "argb", "out.mkv", ("--codec", "ffv1"), "bgra"),
        # x265 is built without alpha as a rule
        *(("ffv1", "yuva420p", f"out{suffix}", (), "libx264 yuv420p") for suffix in (".mp4", ".mkv")),
        *(("ffv1", "yuva420p10le", f"out{suffix}", (), "libx265 yuv420p10le") for suffix in (".mp4", ".mkv")),
        *(("prores_ks", "yuva444p10le", f"out{suffix}", (), "libx265 yuv444p12le") for suffix in (".mp4", ".mkv")),
    ],
)
def test_alpha_is_kept_or_left_out_with_a_note(
    run: Run, tmp_path: Path, codec: str, pix_fmt: str, output: str, arguments: tuple[str, ...], stored: str
) -> None:
    """Kept by the default format of each encoder which can hold it: the mask has its two values again."""
    source = tmp_path / ("in.mov" if codec == "qtrle" else "in.mkv")
    make_video(source, codec=codec, pix_fmt=pix_fmt, pts=[0, 40], picture=half)
    _, after, result = run.film(source, output, *arguments)
    *encoder, stored = stored.split()
    assert after.pix_fmt == stored
    if encoder:
        assert f"note: {encoder[0]} cannot hold the alpha channel" in result.err
        return
    assert "alpha" not in result.err
    mask = after.frames[1].to_ndarray(format="rgba")[:, :, 3].astype(int)
    assert abs(mask[:, 4:58] - 255).max() <= 3
    assert abs(mask[:, 70:124] - 85).max() <= 3


@pytest.mark.parametrize("output", ["out.png", "out.tif"])
def test_float_alpha_does_not_wrap_around(run: Run, tmp_path: Path, output: str, toy_engine: str) -> None:
    """An engine overshoots 1 by a little, which is no code value."""
    mask = np.ones((40, 40), np.float32)
    mask[12:24, 12:24] = 0
    real, written = np.stack([mask * 0.7, mask * 0.5, mask * 0.2, mask], -1), []
    whole = np.rint(real * 65535).astype(np.uint16)
    for samples, pix_fmt, given, name in ((real, "f32le", "in.exr", output), (whole, "16le", "in.tif", "expected.png")):
        source, frame = tmp_path / given, av.VideoFrame.from_ndarray(samples, f"gbrap{pix_fmt}")
        source.write_bytes(encode(frame, source.suffix)[0])
        run.done(source, tmp_path / name, "--engine", toy_engine)
        written.append(read_image(tmp_path / name).to_ndarray(format="rgba64le")[:, :, 3].astype(int))
    assert abs(written[0] - written[1]).max() <= 32
    assert (written[0].min(), written[0].max()) == (0, 65535)
