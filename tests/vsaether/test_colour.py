"""Colour: any format in, the same colours out. The engines here only scale, so that nothing else changes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsaether

from .conftest import assert_same, clip_of, flat, noise, read_planes

core = vs.core

FORMATS = [each for each in vs.PresetVideoFormat if each.name not in ("NONE", "GRAY32")]


def tags(clip: vs.VideoNode, number: int = 0) -> dict[str, Any]:
    with clip.get_frame(number) as frame:
        return dict(frame.props)


def assert_flat(clip: vs.VideoNode, colour: Sequence[float], limit: float = 0) -> None:
    for plane, value in zip(read_planes(clip), colour, strict=True):
        assert abs(plane - value).max() <= limit


@pytest.mark.parametrize("format", FORMATS, ids=lambda preset: preset.name)
def test_every_format_gives_what_resize_alone_gives(format: int, identity_engine: str) -> None:
    clip = noise(format, 48, 32)
    result = vsaether.upscale(clip, identity_engine, dither="none")
    assert (result.format, result.width, result.height, len(result)) == (clip.format, 96, 64, 1)

    matrix = None if clip.format.color_family == vs.RGB else 6
    rgb = clip.resize.Bicubic(format=vs.RGBS, matrix_in=matrix).std.Limiter(min=0, max=1).resize.Point(96, 64)
    expected = rgb.resize.Bicubic(format=clip.format.id, dither_type="none", matrix=matrix)
    limit = 1 if clip.format.sample_type == vs.INTEGER else 1e-3 if clip.format.bits_per_sample == 16 else 1e-6
    assert_same(result, expected, limit=limit)


@pytest.mark.parametrize("format", [vs.GRAY8, vs.GRAY16, vs.RGB24, vs.RGB48], ids=lambda preset: preset.name)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (7, 2), (33, 17)])
def test_full_range_samples_pass_exactly(format: int, width: int, height: int, identity_engine: str) -> None:
    clip = noise(format, width, height, _Range=1)
    assert_same(vsaether.upscale(clip, identity_engine), clip.resize.Point(2 * width, 2 * height))


MATRICES = [{"_Matrix": matrix} for matrix in (1, 4, 5, 6, 7, 8, 9, 10, 14)]
MATRICES += [{"_Matrix": 12, "_Primaries": 9}, {"_Matrix": 14, "_Transfer": 18}]
KEPT = [{"_Range": full, "_ChromaLocation": 2, **tagged} for tagged in MATRICES for full in (0, 1)]
GUESSES: list[tuple[int, int, dict[str, int], int]] = [
    (640, 480, {}, 6), (720, 576, {"_Matrix": 2}, 5), (1024, 576, {"_Matrix": 0}, 5), (1026, 480, {"_Matrix": 3}, 1),
    (1280, 720, {}, 1), (640, 480, {"_Primaries": 9}, 9), (640, 480, {"_Transfer": 16}, 9),
    (640, 480, {"_Transfer": 18}, 9),
]  # fmt: skip
"""Size and tags of a clip; the matrix of the result."""
UNKNOWN = {"_Matrix": 1, "_Transfer": 3, "_Primaries": 0}  # to any conversion
SOME, OTHER = [420, 500, 540], [120, 100, 150]
CASES: list[tuple[vs.VideoNode, Sequence[float], dict[str, int], int]] = [
    *((flat(vs.YUV420P10, SOME, **tagged), SOME, tagged, 1) for tagged in KEPT),
    *((flat(vs.YUV420P8, OTHER, w, h, **tagged), OTHER, {"_Matrix": m, "_Range": 0}, 1) for w, h, tagged, m in GUESSES),
    (flat(vs.GRAY8, [250], _Range=0), [235], {"_Range": 0}, 0),  # clamped before inference
    (flat(vs.RGBS, [1.5, -0.5, 0.25]), [1.0, 0.0, 0.25], {}, 0),
    (flat(vs.RGB24, [16, 100, 235], _Range=0), [16, 100, 235], {"_Range": 0}, 0),
    (flat(vs.RGB24, OTHER, _Matrix=1), OTHER, {"_Matrix": 0}, 0),  # of YUV, left there by some filter
    (flat(vs.YUV444P8, [120, 128, 128], **UNKNOWN), [120, 128, 128], UNKNOWN, 0),
]
"""A clip; colour and tags of the result, and by how many codes a sample may be off."""


@pytest.mark.parametrize(("clip", "colour", "tagged", "limit"), CASES)
def test_colours_and_tags(clip: vs.VideoNode, colour: Any, tagged: Any, limit: int, identity_engine: str) -> None:
    result = vsaether.upscale(clip, identity_engine)
    assert tags(result).items() >= tagged.items()
    assert_flat(result, colour, limit)


def test_matrix_and_range_can_be_overridden_or_given_by_the_deprecated_tag(identity_engine: str) -> None:
    """As limited range 250 would be clamped to 235."""
    clip = flat(vs.YUV444P8, [250, 128, 128], _Matrix=1, _Range=0)
    result = vsaether.upscale(clip, identity_engine, matrix=9, range=1)
    assert tags(result).items() >= {"_Matrix": 9, "_Range": 1}.items()
    assert_flat(result, [250, 128, 128])
    with pytest.warns(DeprecationWarning, match="_Range"):
        result = vsaether.upscale(flat(vs.GRAY8, [250], _ColorRange=0), identity_engine)
    assert tags(result)["_Range"] == 1
    assert_flat(result, [250])


def test_frames_tagged_otherwise_come_out_in_the_colour_of_frame_0(identity_engine: str) -> None:
    rgb = flat(vs.RGB24, [60, 180, 90])
    clip = core.std.Splice([rgb.resize.Bicubic(format=vs.YUV444P16, matrix=matrix) for matrix in (1, 6)])
    result = vsaether.upscale(clip, identity_engine)
    assert tags(result, 0)["_Matrix"] == tags(result, 3)["_Matrix"] == 1
    assert_same(result[:1], result[3:], limit=1)


@pytest.mark.parametrize("location", [0, 1, 2, 3, 4, 5])
def test_chroma_stays_in_place(location: int, make_engine: Any) -> None:
    """Chroma that grows linearly over the picture still lies on the same line after interpolation to twice the size."""
    width, height = 64, 48
    offset_x = 0.5 if location in (1, 3, 5) else 0.0
    offset_y = {0: 0.5, 1: 0.5, 2: 0.0, 3: 0.0, 4: 1.0, 5: 1.0}[location]

    def ramp(shape: tuple[int, int], scale: int) -> np.ndarray:
        """0.002 a source pixel to the right, 0.003 down, at the places of the chroma samples."""
        y, x = np.indices(shape)
        x, y = ((2 * c + o + 0.5) / scale - 0.5 for c, o in ((x, offset_x), (y, offset_y)))
        return 0.002 * x + 0.003 * y - 0.12

    u = ramp((height // 2, width // 2), 1)
    clip = clip_of([[np.full((height, width), 0.5), u, -u]], vs.YUV420PS, _Matrix=1, _ChromaLocation=location)
    result = vsaether.upscale(clip, make_engine(kernels=(), linear=True))
    assert tags(result)["_ChromaLocation"] == location
    got, expected = read_planes(result)[1], ramp((height, width), 2)
    inside = (slice(8, -8), slice(8, -8))
    assert abs(got - expected)[inside].max() < 1e-4  # a quarter of a pixel is 5e-4


@pytest.mark.parametrize("dither", ["none", "ordered", "random", "error_diffusion"])
def test_dither(dither: str, make_engine: Any) -> None:
    """Between two codes, dithering gives both of them; without it, only one. It is the same every time."""
    engine = make_engine(kernels=(), linear=True)
    clip = clip_of([[np.linspace(100, 104, 64).round()[None].repeat(16, 0)]], vs.GRAY8, _Range=1)
    first, second = (read_planes(vsaether.upscale(clip, engine, dither=dither))[0][4:-4, 4:-4] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first.var(0).max() == 0) == (dither == "none")
    assert {100, 104} <= set(first.ravel()) <= {100, 101, 102, 103, 104}
