"""Frames are handed to encoders without a copy, where that is safe: the samples are those of VapourSynth's frame."""

# pyright: reportAttributeAccessIssue=false

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import vapoursynth as vs

from vsaether.media.encode import VideoEncoder
from vsaether.media.encoders import Encoder
from vsaether.media.formats import Layout, Tags
from vsaether.media.info import VideoInfo
from vsaether.media.lent import lent
from vsaether.sizing import Sizing

LAYOUTS = [
    Layout(vs.YUV, 8, (1, 1)), Layout(vs.YUV, 10, (1, 0)), Layout(vs.GRAY, 16), Layout(vs.RGB, 12), Layout(vs.RGB, 8),
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.pix_fmt)
def test_lent_samples_are_the_frames_own_and_outlive_it(layout: Layout, noise: Any) -> None:
    source = noise(layout.vs_format.id, 96, 40, 1).get_frame(0)
    expected = [np.array(source[p]) for p in range(source.format.num_planes)]
    frame = lent(source, layout, 90, 38)  # a part, as of frames which were padded
    assert frame is not None
    assert (frame.width, frame.height, frame.format.name) == (90, 38, layout.pix_fmt)
    del source
    planes, _ = layout.planes(frame)
    for got, plane in zip(planes, expected, strict=True):
        np.testing.assert_array_equal(got, plane[: got.shape[0], : got.shape[1]])


@pytest.mark.parametrize(
    ("layout", "size"),
    [(Layout(vs.YUV, 8, (1, 1)), (33, 32)), (Layout(vs.RGB, 32), (32, 32)), (Layout(vs.YUV, 8, alpha=True), (32, 32))],
)
def test_what_pyav_cannot_take_is_not_lent(layout: Layout, size: tuple[int, int], noise: Any) -> None:
    clip = noise(layout.vs_format.id, 36, 36, 1)
    assert lent(clip.get_frame(0), layout, *size) is None


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "safe"),
    [("libx264", "yuv420p", True), ("libx265", "yuv420p10le", True), ("libsvtav1", "yuv420p10le", True),
     ("ffv1", "yuv420p", True), ("prores_ks", "yuv422p10le", False)],
)  # fmt: skip
def test_no_frame_is_lent_to_threads_of_an_encoder(codec: str, pix_fmt: str, safe: bool) -> None:
    """prores_ks gives frames back in threads which Python may wait for, holding the lock that they need."""
    layout = Layout.of(pix_fmt)
    rate, tags = Fraction(25), Tags(1, 1, 1, 1, 1)
    info = VideoInfo(64, 48, layout, tags, Fraction(1), rate, 1 / rate, 1, False, 0, None, None, None)
    out = av.open(io.BytesIO(), "w", format="matroska")
    assert VideoEncoder(out, Encoder(codec, pix_fmt, {}, False, []), info, Sizing(2), 1 / info.rate).lends is safe
