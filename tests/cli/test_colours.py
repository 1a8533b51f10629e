"""``vsaether upscale`` on videos: colours and shape, and what the file says of them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vsaether.media.images import read_image

from .conftest import Run, luma, make_video, solid

HLG = (9, 9, 18, 1)
ONE = solid(100, 90, 170)


def test_colour_aspect_and_rotation_are_kept(run: Run, tmp_path: Path) -> None:
    """BT.2020 HLG 10 bit, anamorphic and turned: stream and frames say so again, and stay 10 bit."""
    params = {"x265-params": "log-level=error:chromaloc=2:range=limited"}
    film = {"codec": "libx265", "pix_fmt": "yuv420p10le", "tags": HLG, "options": params}
    source = make_video(tmp_path / "in.mp4", aspect=Fraction(16, 11), rotation=90, **film)
    before, after, _ = run.film(source, "out.mp4")
    assert after.tags[:4] == before.tags[:4] == HLG
    assert after.pix_fmt == "yuv420p10le"
    assert after.aspect == before.aspect == Fraction(16, 11)
    assert after.rotation == before.rotation != 0


@pytest.mark.parametrize(
    ("size", "pix_fmt", "given", "told"),
    [
        # What was guessed: a player would guess something else from the larger size.
        ((720, 480), "yuv420p", (2, 2, 2, 0), (6, 2, 2, 1)),
        ((640, 576), "yuv420p", (2, 2, 2, 0), (5, 2, 2, 1)),
        ((64, 48), "yuv420p", (2, 9, 16, 1), (9, 9, 16, 1)),
        ((64, 48), "yuv420p", (1, 1, 1, 2), (1, 1, 1, 2)),
        # YCgCo, constant luminance and ICtCp: FFmpeg has nothing to convert there, and need not know.
        ((64, 48), "yuv420p", (8, 2, 2, 1), (8, 2, 2, 1)),
        ((64, 48), "uyvy422", (8, 2, 2, 1), (8, 2, 2, 1)),
        ((64, 48), "yuv420p", (10, 9, 14, 1), (10, 9, 14, 1)),
        ((64, 48), "yuv420p", (12, 9, 1, 1), (12, 9, 1, 1)),
        ((64, 48), "yuv420p", (13, 1, 1, 1), (13, 1, 1, 1)),
        ((64, 48), "yuv420p", (14, 9, 16, 1), (14, 9, 16, 1)),
    ],
)
def test_the_colour_is_told(
    run: Run, tmp_path: Path, size: tuple[int, int], pix_fmt: str, given: tuple, told: tuple
) -> None:
    codec = "libx264" if pix_fmt == "yuv420p" else "rawvideo"
    source = make_video(tmp_path / "in.mkv", size=size, tags=given, codec=codec, pix_fmt=pix_fmt, pts=[0])
    before, after, _ = run.film(source)
    assert (before.tags[:4], after.tags[:4]) == (given, told)


def test_images_of_a_video_have_the_colours_of_the_video(run: Run, tmp_path: Path) -> None:
    """The same samples, tagged or with tags which can be guessed, become the same RGB."""
    shown = []
    for name, tags in (("tagged", (9, 9, 16, 1)), ("guessed", (2, 9, 16, 1))):
        film = {"codec": "ffv1", "pix_fmt": "yuv444p", "tags": tags, "pts": [0], "picture": ONE}
        run.done(make_video(tmp_path / f"{name}.mkv", **film), tmp_path / name)
        shown.append(read_image(tmp_path / name / "000001.png").to_ndarray(format="rgb24"))
    assert np.array_equal(*shown)


def test_tags_that_change_midway_are_converted(run: Run, tmp_path: Path) -> None:
    """A file has one colour: a part which is tagged otherwise looks as before in it."""
    source = tmp_path / "in.ts"
    with source.open("wb") as file:
        for start, matrix in ((1000, 1), (1480, 6)):
            pts = [start + 40 * i for i in range(12)]
            tags = (matrix, 2, 2, 1)
            part = make_video(tmp_path / "part.ts", pts=pts, tags=tags, picture=ONE, options={"crf": "1"})
            file.write(part.read_bytes())
    before, after, _ = run.film(source, "out.mkv", "--crf", "1")
    assert [before.frames[at].colorspace for at in (0, 20)] == [1, 6]
    assert [after.frames[at].colorspace for at in (0, 20)] == [1, 1]

    def colour(shown: av.VideoFrame, matrix: str) -> np.ndarray:
        return shown.to_ndarray(format="rgb24", src_colorspace=matrix)[9, 9].astype(int)

    assert abs(colour(before.frames[20], "ITU709") - colour(before.frames[20], "SMPTE170M")).max() > 6
    assert abs(colour(after.frames[0], "ITU709") - colour(before.frames[0], "ITU709")).max() <= 2
    assert abs(colour(after.frames[20], "ITU709") - colour(before.frames[20], "SMPTE170M")).max() <= 2


def test_full_range_and_444_are_kept(run: Run, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", pix_fmt="yuv444p", tags=(1, 1, 1, 2), options={"crf": "1"})
    before, after, _ = run.film(source, "out.mkv", "--crf", "1")
    assert after.tags == before.tags
    assert (after.tags[3], after.pix_fmt, before.pix_fmt) == (2, "yuvj444p", "yuvj444p")
    assert abs(luma(after.frames[5])[::2, ::2] - luma(before.frames[5])).mean() < 1.5
