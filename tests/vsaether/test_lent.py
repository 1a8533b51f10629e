"""Frames are handed to encoders without a copy, where that is safe: the samples are those of VapourSynth's frame."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from vsaether.media.encode import VideoEncoder
from vsaether.media.encoders import Encoder
from vsaether.media.formats import Layout, Tags
from vsaether.media.info import VideoInfo
from vsaether.media.lent import lent
from vsaether.sizing import Sizing

from .conftest import noise


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray16le", "gbrp12le", "gbrp"])
def test_lent_samples_are_the_frames_own_and_outlive_it(pix_fmt: str) -> None:
    layout = Layout.of(pix_fmt)
    source = noise(layout.vs_format.id, 96, 40).get_frame(0)
    expected = [np.array(plane) for plane in source]
    frame = lent(source, layout, 90, 38)  # a part, as of frames which were padded
    assert frame is not None
    assert (frame.width, frame.height, frame.format.name) == (90, 38, pix_fmt)
    del source
    for got, plane in zip(layout.planes(frame)[0], expected, strict=True):
        np.testing.assert_array_equal(got, plane[: got.shape[0], : got.shape[1]])


@pytest.mark.parametrize(("pix_fmt", "width"), [("yuv420p", 33), ("gbrpf32le", 32), ("yuva444p", 32)])
def test_what_pyav_cannot_take_is_not_lent(pix_fmt: str, width: int) -> None:
    layout = Layout.of(pix_fmt)
    assert lent(noise(layout.vs_format.id, 36, 36).get_frame(0), layout, width, 32) is None


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "safe"),
    [("libx264", "yuv420p", True), ("libx265", "yuv420p10le", True), ("libsvtav1", "yuv420p10le", True),
     ("ffv1", "yuv420p", True), ("prores_ks", "yuv422p10le", False)],
)  # fmt: skip
def test_no_frame_is_lent_to_threads_of_an_encoder(codec: str, pix_fmt: str, safe: bool) -> None:
    """prores_ks gives frames back in threads which Python may wait for, holding the lock that they need."""
    layout, one = Layout.of(pix_fmt), Fraction(1)
    info = VideoInfo(64, 48, layout, Tags(1, 1, 1, 1, 1), one, one, one, 1, False, 0, None, None, None)
    out = av.open(io.BytesIO(), "w", format="matroska")
    assert VideoEncoder(out, Encoder(codec, pix_fmt, {}, False, []), info, Sizing(2), one).lends is safe
