"""An engine on a card against the CPU, on one fixed picture, before it is used for anything."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import vapoursynth as vs

from ..engines import Engine
from ..errors import BackendError, EngineError
from .ort import OnnxRuntime
from .ov import OpenVINO

LEAST_DB = {"fp32": 65.0, "fp16": 48.0, "int8": 36.0}
"""PSNR against the CPU's float32 sums below which an engine is wrong. What rounding costs lies 10 dB and more above:
of our engines float32 differs by 1e-6, half precision by half a code value; int8 flips single roundings. A layer that
was miscompiled costs far more."""

NEXT = {"int8": "fp16", "fp16": "fp32"}
CORNER = 48
"""Pixels of the picture's corners, on a side, that are compared."""

Run = Callable[[vs.VideoNode, Engine], vs.VideoNode]


def check(engine: Engine, run: Run, width: int, height: int, backend: str) -> None:
    """Compare two corners of the engine's result on a picture of that size with the CPU's.

    The CPU computes each corner from as much of the picture as it depends on, not the whole picture.
    Raises EngineError where they differ, BackendError where there is no CPU backend to compare with.
    """
    clip = picture(width, height)
    got = _planes(run(clip, engine))
    cpu = _cpu()
    worst = np.inf
    for right in (False, True):  # top left, bottom right
        own_w, own_h = min(CORNER, width), min(CORNER, height)
        part_w, part_h = min(own_w + engine.radius, width), min(own_h + engine.radius, height)
        left, top = (width - part_w, height - part_h) if right else (0, 0)
        part = clip.std.CropAbs(width=part_w, height=part_h, left=left, top=top)
        expected = _planes(cpu.run(part, engine))
        s, big_w, big_h = engine.scale, own_w * engine.scale, own_h * engine.scale
        ours = got[:, -big_h:, -big_w:] if right else got[:, :big_h, :big_w]
        theirs = expected[:, -big_h:, -big_w:] if right else expected[:, :big_h, :big_w]
        if got.shape != (3, height * s, width * s) or not np.isfinite(ours).all():
            worst = -np.inf
            break
        worst = min(worst, -10 * np.log10(max(float(np.mean((ours - theirs) ** 2)), 1e-20)))
    if worst >= LEAST_DB[engine.precision]:
        return
    other = NEXT.get(engine.precision)
    preset = engine.name.removesuffix(f"_{engine.precision}")
    advice = f"take {preset}_{other}" if other else "take another backend"
    raise EngineError(
        f"{engine.name} on {backend} at {width}x{height} computes another picture than the CPU ({worst:.1f} dB, at "
        f"least {LEAST_DB[engine.precision]:.0f} are right), so it is not used; {advice}"
    )


def picture(width: int, height: int) -> vs.VideoNode:
    """One RGBS frame in [0, 1], smooth patches with a hard-edged grid: the same everywhere and every time."""
    random = np.random.default_rng(7)
    colours = random.random((6, 8, 3))
    core = vs.core
    rows = []
    for row in colours:
        cells = [core.std.BlankClip(None, 16, 16, vs.RGBS, length=1, color=[float(v) for v in c]) for c in row]
        rows.append(core.std.StackHorizontal(cells))
    patches = core.std.StackVertical(rows)
    smooth = patches.resize.Bilinear(max(width, 16), max(height, 16)).std.CropAbs(width=width, height=height)
    hard = patches.resize.Point(max(width, 16), max(height, 16)).std.CropAbs(width=width, height=height)
    return core.std.Merge(smooth, hard, weight=0.5)


def _planes(clip: vs.VideoNode) -> np.ndarray:
    with clip.get_frame(0) as frame:
        return np.stack([np.array(frame[i], np.float64) for i in range(3)])


def _cpu() -> OnnxRuntime | OpenVINO:
    for kind in (OnnxRuntime, OpenVINO):
        if kind.unusable() is None:
            return replace(kind(), num_streams=1)
    raise BackendError("a built engine cannot be checked without a CPU backend; pip install vapoursynth-mlrt-ort")
