"""Gray of which no tag says what black and white are."""

# pyright: reportAttributeAccessIssue=false

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import vapoursynth as vs

import vsaether
from vsaether import colour
from vsaether.media.formats import UNTAGGED, Layout, complete
from vsaether.media.images import encode, read_image

from .conftest import Run, luma, make_video

TOLD = {"color_trc": 16, "colorspace": 10, "color_range": 2}
RAMP = np.tile(np.arange(256, dtype=np.uint8), (16, 1))


def ramp(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """All values there are, from left to right."""
    return av.VideoFrame.from_ndarray(RAMP, "gray").reformat(format=pix_fmt)


def filled(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
    """A frame with the ramp in it."""
    frame = f.copy()
    np.asarray(frame[0])[:] = RAMP
    return frame


def test_a_film_is_read_as_in_a_script(run: Run, tmp_path: Path, identity_engine: str) -> None:
    """Video is of limited range unless it says otherwise, and the result says so."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="gray", size=(256, 16), picture=ramp, pts=[0])
    before, after, _ = run.film(source, "out.mkv", "--codec", "ffv1")
    clip = vs.core.std.BlankClip(format=vs.GRAY8, width=256, height=16, length=1, keep=True)
    with vsaether.upscale(clip.std.ModifyFrame(clip, filled), identity_engine).get_frame(0) as frame:
        script, told = np.array(frame[0]), frame.props["_Range"]
    assert np.array_equal(luma(after.frames[0]), script)
    assert (before.tags[3], after.tags[3], told) == (0, 1, vs.RANGE_LIMITED)
    assert np.array_equal(script[0, 40:400:2], RAMP[0, 20:200])


def test_an_image_is_of_full_range(run: Run, tmp_path: Path) -> None:
    """Image files know no other, whether their decoder says so or not."""
    assert colour.guess_range(vs.GRAY, image=True) == vs.RANGE_FULL
    assert colour.guess_range(vs.GRAY) == colour.guess_range(vs.YUV, image=True) == vs.RANGE_LIMITED
    for suffix in (".png", ".tif", ".bmp", ".pgm"):
        (tmp_path / f"in{suffix}").write_bytes(encode(ramp(0, 256, 16, "gray"), suffix)[0])
        run.done(tmp_path / f"in{suffix}", tmp_path / "out.png", "--overwrite")
        shown = read_image(tmp_path / "out.png").to_ndarray(format="rgb24")
        assert np.array_equal(shown[0, ::2, 0], RAMP[0])


def test_limited_range_as_an_image(run: Run, tmp_path: Path) -> None:
    """What is written is of full range, since no image file can say another: of an image, and of a film."""
    white = av.VideoFrame.from_ndarray(np.full((16, 16), 235, np.uint8), "gray")
    (tmp_path / "in.png").write_bytes(encode(white, ".png")[0])
    make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="gray", size=(16, 16), pts=[0], picture=lambda *_: white)
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
        with vsaether.upscale(clip, identity_engine).get_frame(0) as frame:
            found: dict[str, Any] = dict(frame.props)
        filtered = {key: int(found[key]) for key in ("_Range", "_Transfer", "_Primaries", "_Matrix")}
        props = complete(tags, layout, width, height).props(layout)
        if layout.family == vs.GRAY:
            del filtered["_Matrix"]
        assert filtered.items() <= props.items(), (layout, tags)
