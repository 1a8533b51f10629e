"""The released ONNX files in vsjetpack's `GenericOnnxScaler`, with its CPU backends as they are by default.

By default ORT_CPU converts the graph to float16, and OV_CPU asks OpenVINO for float16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import presets
import vsaether

from ..docs.test_pages import ROOT, blocks
from ..vsaether.conftest import clip_of, read_planes

vsscale = pytest.importorskip("vsscale", reason="vsjetpack is not installed")
mlrt = pytest.importorskip("vsscale.mlrt", reason="vsjetpack is not installed")

core = vs.core
WIDTH, HEIGHT = 96, 64
CODE = 1 / 255

ENGINES = [pytest.param(path, id=path.stem) for path in sorted(presets.DIR.glob("*/*.onnx"))]
BACKENDS = {"ort": mlrt.Backend.ORT_CPU, "ov": mlrt.Backend.OV_CPU}


@pytest.fixture(scope="module")
def clip() -> vs.VideoNode:
    """An RGBS clip of 2 frames: gradients, edges and fine lines, within [0, 1]."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / 64
    waves = [0.5 + 0.4 * np.sin(9 * x + 5 * y * y), (x + y) / 3, 0.5 + 0.4 * np.cos(40 * x * y)]
    waves[1][20:40, 30:50] = 1.0
    waves[2][::8] = 0.0
    return clip_of([[np.roll(values, n, axis=1) for values in waves] for n in range(2)], vs.RGBS)


def planes(clip: vs.VideoNode, number: int = 0) -> np.ndarray:
    return np.stack(read_planes(clip, number)).clip(0, 1)


def scale(path: Path, backend: Any, clip: vs.VideoNode, **options: Any) -> vs.VideoNode:
    return vsscale.GenericOnnxScaler(path, backend=backend, **options).scale(clip, 2 * clip.width, 2 * clip.height)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("path", ENGINES)
def test_like_vsaether(path: Path, name: str, clip: vs.VideoNode) -> None:
    """But for rounding: their defaults compute floating point in 16 bits, and int8 rounds elsewhere."""
    int8 = path.stem.endswith("int8")
    if int8 and name == "ov" and vsaether.backends.OpenVINO.note("int8"):  # which no host but vsaether corrects
        pytest.skip("OpenVINO's own int8 is not exact on this processor (no VNNI): not tested")
    output = scale(path, BACKENDS[name], clip)
    assert (output.format.id, output.width, output.height, len(output)) == (vs.RGBS, 2 * WIDTH, 2 * HEIGHT, 2)
    expected = vsaether.upscale(clip, engine=path, backend=name)
    for number in range(2):
        ours, theirs = planes(expected, number), planes(output, number)
        assert ours.std() > 0.1
        assert -10 * np.log10(np.mean((ours - theirs) ** 2) + 1e-12) > (45 if int8 else 55)
        assert int8 or abs(ours - theirs).max() <= 3 * CODE
    exact = scale(path, BACKENDS[name](fp16=False), clip)
    assert abs(planes(expected) - planes(exact)).max() <= 0.25 * CODE


@pytest.mark.parametrize("preset", presets.names())
def test_tiles(preset: str, clip: vs.VideoNode) -> None:
    """vs-mlrt crops the overlap in pixels of the output: it must be the receptive radius times the scale."""
    overlap = 2 * presets.load(preset)["receptive_radius"]
    low = core.std.StackHorizontal([clip[0]] * 3).std.Crop(bottom=HEIGHT - 16)

    def scaled(**options: Any) -> np.ndarray:
        return planes(scale(presets.path(preset, "fp32"), BACKENDS["ort"](fp16=False), low, **options))

    whole = scaled()
    tiled = scaled(tilesize=(WIDTH + 2 * overlap, 16), overlap=(overlap, 0))
    assert abs(whole - tiled).max() <= 0.25 * CODE
    assert abs(whole - scaled(tilesize=(WIDTH, 16))).max() > 2 * CODE


def test_the_script_of_the_page(clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """From YUV 4:2:0 to RGBS and back."""
    monkeypatch.chdir(ROOT)
    [script] = blocks(ROOT / "docs" / "hosts" / "vsjetpack.md", "python")
    names = {"clip": clip.resize.Bicubic(format=vs.YUV420P8, matrix=1)}
    [source, *_] = read_planes(names["clip"], 1)
    exec(compile(script, "script.vpy", "exec"), names)
    assert names["clip"].format.id == vs.YUV420P8
    luma = read_planes(names["clip"], 1)[0]
    assert abs(luma.reshape(HEIGHT, 2, WIDTH, 2).mean((1, 3)) - source).mean() < 3
