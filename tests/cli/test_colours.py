"""Colours and shape of videos: what the file says of them is kept, and what it leaves open is guessed in one way."""

# pyright: reportAttributeAccessIssue=false

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import vapoursynth as vs
from PIL import Image

import vsaether
from vsaether import colour
from vsaether.media.formats import UNTAGGED, Layout, complete
from vsaether.media.images import read_image

from .conftest import Run, luma, make_video, solid

HLG = (9, 9, 18, 1)
KEPT = [("yuv420p", (1, 1, 1, 2)), ("yuv444p", (1, 1, 1, 2)), ("uyvy422", (8, 2, 2, 1))]
# YCgCo, constant luminance and ICtCp: FFmpeg has nothing to convert there, and need not know.
KEPT += [("yuv420p", tags) for tags in ((8, 2, 2, 1), (10, 9, 14, 1), (12, 9, 1, 1), (13, 1, 1, 1), (14, 9, 16, 1))]
TOLD = {"color_trc": 16, "colorspace": 10, "color_range": 2}
RAMP = np.tile(np.arange(256, dtype=np.uint8), (16, 1))


def test_colour_aspect_and_rotation_are_kept(run: Run, tmp_path: Path) -> None:
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
        *(((64, 48), pix_fmt, tags, tags) for pix_fmt, tags in KEPT),
    ],
)
def test_the_colour_is_told(run: Run, tmp_path: Path, size: tuple, pix_fmt: str, given: tuple, told: tuple) -> None:
    codec = "rawvideo" if pix_fmt == "uyvy422" else "libx264"
    film = {"size": size, "tags": given, "codec": codec, "pix_fmt": pix_fmt}
    source = make_video(tmp_path / "in.mkv", pts=[0], options={"crf": "1"} if codec == "libx264" else None, **film)
    before, after, _ = run.film(source, "out.mkv", "--crf", "1")
    assert (before.tags[:4], after.tags[:4]) == (given, told)
    if given[0] == 1:  # of the others not all is a colour
        assert after.pix_fmt == before.pix_fmt
        assert abs(luma(after.frames[0])[::2, ::2] - luma(before.frames[0])).mean() < 1.5


def test_images_of_a_video_have_the_colours_of_the_video(run: Run, tmp_path: Path) -> None:
    shown = []
    for name, tags in (("tagged", (9, 9, 16, 1)), ("guessed", (2, 9, 16, 1))):
        film = {"codec": "ffv1", "pix_fmt": "yuv444p", "tags": tags, "pts": [0], "picture": solid(100, 90, 170)}
        run.done(make_video(tmp_path / f"{name}.mkv", **film), tmp_path / name)
        shown.append(read_image(tmp_path / name / "000001.png").to_ndarray(format="rgb24"))
    assert np.array_equal(*shown)


def test_a_film_is_read_as_in_a_script(run: Run, tmp_path: Path, identity_engine: str) -> None:
    """Video is of limited range unless it says otherwise, and the result says so."""
    film: dict[str, Any] = {"pix_fmt": "gray", "picture": lambda *_: av.VideoFrame.from_ndarray(RAMP, "gray")}
    source = make_video(tmp_path / "in.mkv", codec="ffv1", size=(256, 16), pts=[0], **film)
    before, after, _ = run.film(source, "out.mkv", "--codec", "ffv1")
    clip = vs.core.bs.VideoSource(str(source), cachemode=0)
    with vsaether.upscale(clip, identity_engine).get_frame(0) as frame:
        script, told = np.array(frame[0]), frame.props["_Range"]
    assert np.array_equal(luma(after.frames[0]), script)
    assert (before.tags[3], after.tags[3], told) == (0, 1, vs.RANGE_LIMITED)
    assert np.array_equal(script[0, 40:400:2], RAMP[0, 20:200])


def test_an_image_is_of_full_range(run: Run, tmp_path: Path) -> None:
    """Image files know no other, whether their decoder says so or not."""
    assert colour.guess_range(vs.GRAY, image=True) == vs.RANGE_FULL
    assert colour.guess_range(vs.GRAY) == colour.guess_range(vs.YUV, image=True) == vs.RANGE_LIMITED
    for suffix in (".png", ".tif", ".bmp", ".pgm"):
        Image.fromarray(RAMP).save(tmp_path / f"in{suffix}")
        run.done(tmp_path / f"in{suffix}", tmp_path / "out.png", "--overwrite")
        shown = read_image(tmp_path / "out.png").to_ndarray(format="rgb24")
        assert np.array_equal(shown[0, ::2, 0], RAMP[0])


def test_limited_range_as_an_image(run: Run, tmp_path: Path) -> None:
    """What is written is of full range, since no image file can say another: of an image, and of a film."""
    Image.new("L", (16, 16), 235).save(tmp_path / "in.png")
    make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="gray", size=(16, 16), pts=[0], picture=solid(235))
    run.done(tmp_path / "in.png", tmp_path / "image.png", "--range", "limited")
    run.done(tmp_path / "in.mkv", tmp_path / "film" / "%d.png")
    for written in ("image.png", "film/1.png"):
        assert read_image(tmp_path / written).to_ndarray(format="gray").min() == 255


def test_what_is_guessed_of_a_file_is_what_the_filter_guesses(identity_engine: str) -> None:
    """All that tags can leave open, of every family and on both sides of the sizes at which the matrix changes."""
    layouts = [Layout(vs.GRAY, 8), Layout(vs.YUV, 8, (1, 1)), Layout(vs.YUV, 10), Layout(vs.RGB, 8)]
    given = [UNTAGGED, *(replace(UNTAGGED, **{key: value}) for key, value in TOLD.items())]
    for layout, tags, (width, height) in itertools.product(layouts, given, [(48, 480), (48, 576), (1280, 16)]):
        if layout.family != vs.YUV and tags.colorspace == 10:
            continue  # gray and RGB have no matrix to guess
        clip = vs.core.std.BlankClip(format=layout.vs_format.id, width=width, height=height, length=1)
        clip = clip.std.RemoveFrameProps("_Range").std.SetFrameProps(**tags.props(layout))
        with vsaether.upscale(clip, identity_engine, backend="ort").get_frame(0) as frame:
            found: dict[str, Any] = dict(frame.props)
        filtered = {key: int(found[key]) for key in ("_Range", "_Transfer", "_Primaries", "_Matrix")}
        props = complete(tags, layout, width, height).props(layout)
        if layout.family == vs.GRAY:
            del filtered["_Matrix"]
        assert filtered.items() <= props.items(), (layout, tags)
