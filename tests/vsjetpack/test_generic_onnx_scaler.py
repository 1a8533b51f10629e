"""The released ONNX files in vsjetpack's `GenericOnnxScaler`, with its CPU backends as they are by default.

By default ORT_CPU converts the graph to float16, and OV_CPU asks OpenVINO for float16.
"""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import presets
import vsaether

vsscale = pytest.importorskip("vsscale", reason="vsjetpack is not installed")
mlrt = pytest.importorskip("vsscale.mlrt", reason="vsjetpack is not installed")

core = vs.core
WIDTH, HEIGHT = 96, 64
CODE = 1 / 255


ENGINES = [pytest.param(path, id=path.stem) for path in sorted(presets.DIR.glob("*/*.onnx"))]
BACKENDS = {"ORT_CPU": mlrt.Backend.ORT_CPU, "OV_CPU": mlrt.Backend.OV_CPU}


@pytest.fixture(scope="module")
def clip() -> vs.VideoNode:
    """An RGBS clip of 2 frames: gradients, edges and fine lines, within [0, 1]."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / 64
    waves = [0.5 + 0.4 * np.sin(9 * x + 5 * y * y), (x + y) / 3, 0.5 + 0.4 * np.cos(40 * x * y)]
    waves[1][20:40, 30:50] = 1.0
    waves[2][::8] = 0.0
    blank = core.std.BlankClip(format=vs.RGBS, width=WIDTH, height=HEIGHT, length=2, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for plane, values in enumerate(waves):
            np.asarray(frame[plane])[:] = np.roll(values, n, axis=1)
        return frame

    return blank.std.ModifyFrame(blank, fill)


def planes(clip: vs.VideoNode, number: int = 0) -> np.ndarray:
    with clip.get_frame(number) as frame:
        return np.stack([np.array(frame[plane], dtype=np.float64) for plane in range(3)]).clip(0, 1)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2) + 1e-12))


def scale(path: Path, backend: Any, clip: vs.VideoNode, **options: Any) -> vs.VideoNode:
    return vsscale.GenericOnnxScaler(path, backend=backend, **options).scale(clip, 2 * clip.width, 2 * clip.height)


def skip_inexact(path: Path, backend: str) -> None:
    """Skip, aloud, what OpenVINO computes wrongly on processors without VNNI, and no host but vsaether corrects."""
    if path.stem.endswith("int8") and backend == "OV_CPU" and vsaether.backends.OpenVINO.note("int8"):
        pytest.skip("OpenVINO's own int8 is not exact on this processor (no VNNI): not tested")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", ENGINES)
def test_defaults(path: Path, backend: str, clip: vs.VideoNode) -> None:
    """Like vsaether, but for rounding: their defaults compute floating point in 16 bits, and int8 rounds elsewhere."""
    skip_inexact(path, backend)
    output = scale(path, BACKENDS[backend], clip)
    assert output.format.id == vs.RGBS
    assert (output.width, output.height, output.num_frames) == (2 * WIDTH, 2 * HEIGHT, 2)
    expected = vsaether.upscale(clip, engine=path, backend="ort")
    for number in range(2):
        ours, theirs = planes(expected, number), planes(output, number)
        assert ours.std() > 0.1
        if path.stem.endswith("int8"):
            assert psnr(ours, theirs) > 45
        else:
            assert psnr(ours, theirs) > 55
            assert abs(ours - theirs).max() <= 3 * CODE


@pytest.mark.parametrize(("backend", "ours"), [("ORT_CPU", "ort"), ("OV_CPU", "ov")])
@pytest.mark.parametrize("path", ENGINES)
def test_without_fp16_they_compute_what_vsaether_computes(
    path: Path, backend: str, ours: str, clip: vs.VideoNode
) -> None:
    skip_inexact(path, backend)
    output = scale(path, BACKENDS[backend](fp16=False), clip)
    expected = vsaether.upscale(clip, engine=path, backend=ours)
    assert abs(planes(expected) - planes(output)).max() <= 0.25 * CODE


@pytest.mark.parametrize("path", ENGINES)
def test_tiles(path: Path, clip: vs.VideoNode) -> None:
    """vs-mlrt crops the overlap in pixels of the output: it must be the receptive radius times the scale."""
    radius = presets.load(path.parent.name)["receptive_radius"]
    wide = core.std.StackHorizontal([clip] * 3)
    whole = planes(scale(path, BACKENDS["ORT_CPU"](fp16=False), wide))
    overlap = 2 * radius
    tiled = planes(
        scale(path, BACKENDS["ORT_CPU"](fp16=False), wide, tilesize=(WIDTH + 2 * overlap, HEIGHT), overlap=(overlap, 0))
    )
    assert abs(whole - tiled).max() <= 0.25 * CODE
    bare = planes(scale(path, BACKENDS["ORT_CPU"](fp16=False), wide, tilesize=(WIDTH, HEIGHT)))
    assert abs(whole - bare).max() > 2 * CODE


@pytest.mark.parametrize("backend", BACKENDS)
def test_video(backend: str, clip: vs.VideoNode) -> None:
    """A YUV 4:2:0 clip, taken to RGBS and back as the documentation says."""
    path = presets.DIR / "tiny_2x" / "aether_tiny_2x_fp32_int8.onnx"
    video = clip.resize.Bicubic(format=vs.YUV420P8, matrix_s="709")
    rgb = video.resize.Bicubic(format=vs.RGBS)
    result = scale(path, BACKENDS[backend], rgb).resize.Bicubic(format=vs.YUV420P8, matrix_s="709")
    with result.get_frame(1) as frame:
        luma = np.array(frame[0], dtype=np.float64)
    with video.get_frame(1) as frame:
        source = np.array(frame[0], dtype=np.float64)
    assert luma.shape == (2 * HEIGHT, 2 * WIDTH)
    half = luma.reshape(HEIGHT, 2, WIDTH, 2).mean((1, 3))
    assert abs(half - source).mean() < 3
