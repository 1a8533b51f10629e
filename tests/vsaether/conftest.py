"""Clips with known contents, and what is in a clip."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

core = vs.core


def read_planes(clip: vs.VideoNode, number: int = 0) -> list[np.ndarray]:
    """A frame's planes; integer ones as int64, so that differences do not wrap."""
    with clip.get_frame(number) as frame:
        arrays = [np.array(plane) for plane in frame]
    return [array.astype(np.int64 if array.dtype.kind == "u" else np.float64) for array in arrays]


def clip_of(frames: Sequence[Any] | np.ndarray, format: int, **props: Any) -> vs.VideoNode:
    """A clip with exactly these planes in its frames, each a list of them."""
    height, width = frames[0][0].shape
    blank = core.std.BlankClip(format=format, width=width, height=height, length=len(frames), keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for plane, values in enumerate(frames[n]):
            np.asarray(frame[plane])[:] = values
        return frame

    clip = blank.std.ModifyFrame(blank, fill)
    return clip.std.SetFrameProps(**props) if props else clip


def flat(format: int, color: Any = None, width: int = 64, height: int = 64, **props: int) -> vs.VideoNode:
    """Two frames of a colour: black, where none is given."""
    clip = core.std.BlankClip(format=format, color=color, width=width, height=height, length=2, keep=True)
    return clip.std.SetFrameProps(**props) if props else clip


def noise(format: int, width: int, height: int, length: int = 1, seed: int = 0, **props: Any) -> vs.VideoNode:
    """Random samples, all over the format's values."""
    random = np.random.default_rng(seed)
    blank = core.std.BlankClip(format=format, width=width, height=height, length=1)
    layout = blank.format

    def samples(plane: int, shape: tuple[int, ...]) -> np.ndarray:
        if layout.sample_type == vs.INTEGER:
            return random.integers(0, 1 << layout.bits_per_sample, shape)
        return random.random(shape) - (0.5 if plane and layout.color_family == vs.YUV else 0)

    shapes = [plane.shape for plane in read_planes(blank)]
    return clip_of([[samples(*each) for each in enumerate(shapes)] for _ in range(length)], format, **props)


def assert_same(got: vs.VideoNode, expected: vs.VideoNode, number: int = 0, limit: float = 0) -> None:
    """Frame `number` of both clips has the same samples, up to a limit."""
    for one, other in zip(read_planes(got, number), read_planes(expected, number), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=limit)


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, in a folder which holds nothing of ours."""
    command = [sys.executable, "-c", f"import sys\nimport vapoursynth as vs\n{script}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd="/")


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What VapourSynth's log is told during the test."""
    lines: list[str] = []
    handle = core.add_log_handler(lambda _, message: lines.append(message))
    yield lines
    core.remove_log_handler(handle)
