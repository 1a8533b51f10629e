"""Interlaced frames and alpha."""

from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether

from .conftest import assert_same, clip_of, noise, read_planes

core = vs.core


@pytest.mark.parametrize(("order", "scale"), [(1, 2), (2, 2), (2, 1)])
def test_rows_of_both_fields_are_in_place(order: int, scale: int, make_engine: Any) -> None:
    """Brightness that grows linearly down a still picture lies on the same line in the larger interlaced frame."""
    rows = np.arange(64.0)
    clip = clip_of([[(0.1 + 0.01 * rows)[:, None].repeat(16, 1)]] * 3, vs.GRAYS, _FieldBased=order)
    result = vsaether.upscale(clip, make_engine(kernels=(), linear=scale == 2, scale=scale))
    assert [frame.props["_FieldBased"] for frame in result.frames(close=False)] == [order] * 3
    expected = 0.1 + 0.01 * ((np.arange(64.0 * scale) + 0.5) / scale - 0.5)
    # A row in the wrong place by half a row of the source is off by 0.005.
    assert abs(read_planes(result, 1)[0][:, 8] - expected)[16:-16].max() < 1e-4


@pytest.mark.parametrize("format", [vs.RGBS, vs.YUV420P8])
def test_fields_do_not_mix(format: int, toy_engine: str) -> None:
    """What changes in one field leaves the other as it is."""
    top, other, bottom = (noise(format, 24, 16, seed=seed) for seed in (1, 2, 3))
    woven = [core.std.Interleave([first, bottom]).std.DoubleWeave(tff=True)[0] for first in (top, other)]
    a, b = (read_planes(vsaether.upscale(clip.std.SetFieldBased(2), toy_engine)) for clip in woven)
    for one, two in zip(a, b, strict=True):
        np.testing.assert_array_equal(one[1::2], two[1::2])
        assert abs(one[::2] - two[::2]).max() > 0.1


def test_tiles_and_other_properties_survive_weaving(toy_engine: str) -> None:
    given = {"_FieldBased": 1, "_Matrix": 6, "_DurationNum": 1001, "_DurationDen": 30000, "_SARNum": 4, "_SARDen": 3}
    clip = noise(vs.YUV420P8, 48, 64, 3, **given, name="x")
    whole, tiled = vsaether.upscale(clip, toy_engine), vsaether.upscale(clip, toy_engine, tile=24)
    assert (whole.format, whole.width, whole.height, len(whole)) == (clip.format, 96, 128, 3)
    assert_same(tiled, whole, 2)
    with whole.get_frame(1) as frame:
        assert frame.props.items() >= (given | {"name": "x"}).items()
        assert "_Field" not in frame.props


def test_progressive_flag_changes_nothing(toy_engine: str) -> None:
    clip = noise(vs.YUV420P8, 48, 32)
    assert_same(vsaether.upscale(clip.std.SetFieldBased(0), toy_engine), vsaether.upscale(clip, toy_engine))


@pytest.mark.parametrize(("format", "height"), [(vs.YUV420P8, 46), (vs.YUV444P8, 45), (vs.GRAY8, 3)])
def test_height_without_fields_is_refused(format: int, height: int, toy_engine: str) -> None:
    with pytest.raises(vs.Error, match=r"aether\.Upscale: .*interlaced.*height divisible by.*SetFieldBased"):
        vsaether.upscale(noise(format, 32, height, _FieldBased=2), toy_engine)


@pytest.mark.parametrize(
    ("fields", "tile", "having"),
    [(0, None, (0, 1, 2, 3)), (0, None, (0,)), (0, 24, (0, 3)), (2, None, (1, 2)), (2, 24, (0, 1, 2, 3))],
)
def test_alpha_is_a_full_range_picture_and_begins_and_ends_anywhere(
    fields: int, tile: int | None, having: tuple[int, ...], toy_engine: str
) -> None:
    """Each frame has alpha, or has none, as in the source; depths may change; the picture does not."""
    clip = noise(vs.RGB24, 40, 32, 4, _FieldBased=fields, own=7)
    masks = {n: noise(vs.GRAY16 if n == 3 else vs.GRAY8, 40, 32, seed=n) for n in having}
    parts = [clip[n].std.ClipToProp(masks[n], "_Alpha") if n in masks else clip[n] for n in range(4)]
    result = vsaether.upscale(core.std.Splice(parts), toy_engine, tile=tile)
    bare = vsaether.upscale(clip, toy_engine)
    for n in (3, 1, 0, 2):
        with result.get_frame(n) as frame:
            assert ("_Alpha" in frame.props, frame.props["own"]) == (n in masks, 7)
        assert_same(result, bare, n)
    for n, mask in masks.items():
        expected = vsaether.upscale(mask.std.SetFieldBased(fields), toy_engine, range=1)
        alpha = result[n].std.PropToClip("_Alpha")
        assert alpha.format.id == mask.format.id
        assert_same(alpha, expected)


def test_float_alpha_stays_between_0_and_1(toy_engine: str) -> None:
    clip = noise(vs.RGBS, 40, 30).std.ClipToProp(noise(vs.GRAYS, 40, 30).std.Expr("x 0.5 > 1 0 ?"), "_Alpha")
    alpha = read_planes(vsaether.upscale(clip, toy_engine).std.PropToClip("_Alpha"))[0]
    assert (alpha.min(), alpha.max()) == (0, 1)


def test_alpha_of_another_size_is_refused(identity_engine: str) -> None:
    """At once in frame 0; in a later one as an error of that frame."""
    clip = noise(vs.RGB24, 40, 30, 2)
    wrong = clip[1].std.ClipToProp(noise(vs.GRAY8, 20, 30), "_Alpha")
    with pytest.raises(vs.Error, match=r"aether\.Upscale: _Alpha is 20x30 Gray8.*40x30"):
        vsaether.upscale(wrong, identity_engine)
    result = vsaether.upscale(clip[0] + wrong, identity_engine)
    assert result.get_frame(0).width == 80
    with pytest.raises(vs.Error, match="_Alpha is 20x30 Gray8"):
        result.get_frame(1)
