"""The size that is asked for: which it is, and how the picture gets there."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether
from vsaether.errors import ArgumentError
from vsaether.sizing import Sizing

from .conftest import clip_of, noise, read_planes

core = vs.core


@pytest.mark.parametrize(
    ("asked", "size", "passes"),
    [
        ({}, (1280, 720), 1),
        ({"height": 720}, (1280, 720), 1),
        ({"height": 1080}, (1920, 1080), 2),
        ({"height": 2160}, (3840, 2160), 2),
        ({"width": 1000}, (1000, 562), 1),
        ({"width": 1000, "height": 1000}, (1000, 1000), 2),
        ({"factor": Fraction(3, 2)}, (960, 540), 1),
        ({"factor": Fraction(3)}, (1920, 1080), 2),
    ],
)
def test_the_other_side_follows(asked: Any, size: tuple[int, int], passes: int) -> None:
    sizing = Sizing(2, **asked)
    assert (sizing.of(640, 360), sizing.passes(640, 360)) == (size, passes)


@pytest.mark.parametrize("asked", [{"width": 0}, {"height": 1.5}, {"width": 64, "factor": Fraction(2)}])
def test_what_is_no_size_is_refused(asked: Any) -> None:
    with pytest.raises(ArgumentError):
        Sizing(2, **asked)
    with pytest.raises(ArgumentError, match="1048576x"):
        Sizing(2, width=1 << 20).of(64, 1 << 10)


@pytest.mark.parametrize("format", [vs.YUV420P8, vs.RGB24, vs.YUV422P16, vs.GRAYS])
def test_the_filter_makes_the_size(toy_engine: str, format: int) -> None:
    clip = noise(format, 64, 48)
    for width, height, size in ((None, 72, (96, 72)), (200, None, (200, 150)), (96, 96, (96, 96))):
        made = vsaether.upscale(clip, toy_engine, backend="ort", width=width, height=height)
        assert (made.width, made.height, made.format.id) == (*size, format)
        assert read_planes(made)[0].shape == size[::-1]
    if format == vs.YUV420P8:
        with pytest.raises(vs.Error, match=r"width is 97.*YUV420P8.*divisible by 2"):
            core.aether.Upscale(clip, toy_engine, width=97)


@pytest.mark.parametrize("field_based", [0, 2])
@pytest.mark.parametrize("asked", [{"height": 144}, {"height": 72}, {"width": 320}])
def test_the_picture_stays_in_place(asked: Any, field_based: int) -> None:
    """A smooth picture is the same one in each size, interlaced or not: nothing is moved, not by a quarter of a row."""

    def smooth(width: int, height: int) -> np.ndarray:
        y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        return (0.5 + 0.2 * np.sin(25 * y)[:, None] + 0.2 * np.cos(16 * x)[None]).astype(np.float32)

    clip = clip_of([[smooth(96, 72)] * 3], vs.RGBS, _FieldBased=field_based)
    result = vsaether.upscale(clip, "tiny_2x_fp32", backend="ort", **asked)
    assert result.get_frame(0).props.get("_FieldBased", 0) == field_based
    error = abs(read_planes(result)[1] - smooth(result.width, result.height))
    assert error[16:-16, 16:-16].mean() < 1.5e-3  # a quarter of a pixel is 3e-3
