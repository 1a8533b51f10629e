"""Gray of which no tag says what black and white are."""

# pyright: reportAttributeAccessIssue=false

from pathlib import Path

import av
import numpy as np
import vapoursynth as vs

import vsaether
from vsaether.media.images import encode, read_image

from .conftest import Run, make_video, read

RAMP = np.tile(np.arange(256, dtype=np.uint8), (16, 1))


def ramp(index: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
    """All values there are, from left to right."""
    return av.VideoFrame.from_ndarray(RAMP, "gray").reformat(format=pix_fmt)


def test_a_film_is_read_as_in_a_script(run: Run, tmp_path: Path, identity_engine: str) -> None:
    """Video is of limited range unless it says otherwise, and the result says so."""
    source = make_video(tmp_path / "in.mkv", codec="ffv1", pix_fmt="gray", size=(256, 16), picture=ramp, pts=[0])
    assert read(source).tags[3] == 0
    assert run(source, tmp_path / "out.mkv", "--codec", "ffv1").code == 0
    after = read(tmp_path / "out.mkv")
    clip = vs.core.std.BlankClip(format=vs.GRAY8, width=256, height=16, length=1, keep=True)
    clip = clip.std.ModifyFrame(clip, lambda n, f: filled(f.copy()))
    with vsaether.upscale(clip, identity_engine).get_frame(0) as frame:
        script, told = np.array(frame[0]), frame.props["_Range"]
    assert np.array_equal(after.frames[0].to_ndarray(format="gray"), script)
    assert (after.tags[3], told) == (1, vs.RANGE_LIMITED)
    assert np.array_equal(script[0, 40:400:2], RAMP[0, 20:200])


def filled(frame: vs.VideoFrame) -> vs.VideoFrame:
    """A frame with the ramp in it."""
    np.asarray(frame[0])[:] = RAMP
    return frame


def test_an_image_is_of_full_range(run: Run, tmp_path: Path) -> None:
    """Image files know no other, whether their decoder says so or not."""
    for suffix in (".png", ".tif", ".bmp"):
        (tmp_path / f"in{suffix}").write_bytes(encode(ramp(0, 256, 16, "gray"), suffix)[0])
        assert run(tmp_path / f"in{suffix}", tmp_path / "out.png", "--overwrite").code == 0
        shown = read_image(tmp_path / "out.png").to_ndarray(format="rgb24")
        assert np.array_equal(shown[0, ::2, 0], RAMP[0])
