"""Interlaced frames and alpha."""

from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether

from .conftest import assert_same

core = vs.core


def field_tags(clip: vs.VideoNode) -> list[Any]:
    return [frame.props.get("_FieldBased") for frame in clip.frames(close=False)]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("scale", [1, 2])
def test_rows_of_both_fields_are_in_place(
    order: int, scale: int, make_clip: Any, planes: Any, make_engine: Any
) -> None:
    """Brightness that grows linearly down a still picture lies on the same line in the larger interlaced frame."""
    engine = str(make_engine(kernels=(), linear=True) if scale == 2 else make_engine(kernels=(), scale=1))
    rows = np.arange(64.0)
    clip = make_clip([[(0.1 + 0.01 * rows)[:, None].repeat(16, 1)]] * 3, vs.GRAYS, _FieldBased=order)
    result = vsaether.upscale(clip, engine)
    assert field_tags(result) == [order] * 3
    got = planes(result, 1)[0][:, 8]
    expected = 0.1 + 0.01 * ((np.arange(64.0 * scale) + 0.5) / scale - 0.5)
    # A row in the wrong place by half a row of the source is off by 0.005.
    assert abs(got - expected)[16:-16].max() < 1e-4


@pytest.mark.parametrize("format", [vs.RGBS, vs.YUV420P8])
def test_fields_do_not_mix(format: int, planes: Any, toy_engine: str, noise: Any) -> None:
    """What changes in one field leaves the other as it is."""
    top, other, bottom = (noise(format, 24, 16, seed=seed) for seed in (1, 2, 3))

    def weave(first: vs.VideoNode) -> vs.VideoNode:
        fields = core.std.Interleave([first, bottom])
        return fields.std.DoubleWeave(tff=True)[0].std.SetFieldBased(2)

    a, b = (planes(vsaether.upscale(weave(first), toy_engine)) for first in (top, other))
    for one, two in zip(a, b, strict=True):
        np.testing.assert_array_equal(one[1::2], two[1::2])
        assert abs(one[::2] - two[::2]).max() > 0.1


def test_tiles_and_other_properties_survive_weaving(toy_engine: str, noise: Any) -> None:
    given: dict[str, Any] = {
        "_FieldBased": 1,
        "_Matrix": 6,
        "_DurationNum": 1001,
        "_DurationDen": 30000,
        "_SARNum": 4,
        "_SARDen": 3,
    }
    given["name"] = "x"
    clip = noise(vs.YUV420P8, 48, 64, 3, **given)
    whole, tiled = vsaether.upscale(clip, toy_engine), vsaether.upscale(clip, toy_engine, tile=24)
    assert (whole.format, whole.width, whole.height, len(whole)) == (clip.format, 96, 128, 3)
    assert_same(tiled, whole, 2)
    with whole.get_frame(1) as frame:
        assert {key: frame.props[key] for key in given} == given
        assert "_Field" not in frame.props


def test_progressive_flag_changes_nothing(toy_engine: str, noise: Any) -> None:
    clip = noise(vs.YUV420P8, 48, 32)
    assert_same(vsaether.upscale(clip.std.SetFieldBased(0), toy_engine), vsaether.upscale(clip, toy_engine))


@pytest.mark.parametrize(("format", "height"), [(vs.YUV420P8, 46), (vs.YUV444P8, 45), (vs.GRAY8, 3)])
def test_height_without_fields_is_refused(format: int, height: int, noise: Any, toy_engine: str) -> None:
    with pytest.raises(vs.Error, match=r"aether\.Upscale: .*interlaced.*height divisible by.*SetFieldBased"):
        vsaether.upscale(noise(format, 32, height, _FieldBased=2), toy_engine)


def test_alpha_keeps_its_own_depth(identity_engine: str, noise: Any) -> None:
    clip, mask = noise(vs.YUV420P8, 40, 30), noise(vs.GRAY16, 40, 30)
    result = vsaether.upscale(clip.std.ClipToProp(mask, "_Alpha"), identity_engine)
    assert_same(result.std.PropToClip("_Alpha"), mask.resize.Point(80, 60))


@pytest.mark.parametrize(("fields", "tile"), [(0, None), (2, None), (0, 24)])
@pytest.mark.parametrize("having", [(0, 1, 2, 3), (0,), (1, 2), (0, 3), (3,)])
def test_alpha_is_a_full_range_picture_and_begins_and_ends_anywhere(
    fields: int, tile: int | None, having: tuple[int, ...], toy_engine: str, noise: Any
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
        assert_same(result[n].std.PropToClip("_Alpha"), expected)


def test_float_alpha_stays_between_0_and_1(planes: Any, toy_engine: str, noise: Any) -> None:
    clip = noise(vs.RGBS, 40, 30).std.ClipToProp(noise(vs.GRAYS, 40, 30).std.Expr("x 0.5 > 1 0 ?"), "_Alpha")
    alpha = planes(vsaether.upscale(clip, toy_engine).std.PropToClip("_Alpha"))[0]
    assert (alpha.min(), alpha.max()) == (0, 1)


def test_alpha_of_another_size_is_refused(noise: Any, identity_engine: str) -> None:
    """At once in frame 0; in a later one as an error of that frame."""
    clip, mask = noise(vs.RGB24, 40, 30, 2), noise(vs.GRAY8, 20, 30)
    wrong = clip[1].std.ClipToProp(mask, "_Alpha")
    with pytest.raises(vs.Error, match=r"aether\.Upscale: _Alpha is 20x30 Gray8.*40x30"):
        vsaether.upscale(wrong, identity_engine)
    result = vsaether.upscale(clip[0] + wrong, identity_engine)
    assert result.get_frame(0).width == 80
    with pytest.raises(vs.Error, match="_Alpha is 20x30 Gray8"):
        result.get_frame(1)
