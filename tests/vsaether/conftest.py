"""Clips with known contents, and what is in a clip."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

core = vs.core

Planes = Callable[..., list[np.ndarray]]
MakeClip = Callable[..., vs.VideoNode]


def read_planes(clip: vs.VideoNode, number: int = 0) -> list[np.ndarray]:
    """A frame's planes; integer ones as int64, so that differences do not wrap."""
    with clip.get_frame(number) as frame:
        arrays = [np.array(frame[plane]) for plane in range(frame.format.num_planes)]
    return [array.astype(np.int64 if array.dtype.kind == "u" else np.float64) for array in arrays]


def clip_of(frames: list[list[np.ndarray]], format: int, **props: Any) -> vs.VideoNode:
    """A clip with exactly these planes in its frames."""
    height, width = frames[0][0].shape
    blank = core.std.BlankClip(format=format, width=width, height=height, length=len(frames), keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for plane, values in enumerate(frames[n]):
            target = np.asarray(frame[plane])
            target[:] = values.astype(target.dtype)
        return frame

    clip = blank.std.ModifyFrame(blank, fill)
    return clip.std.SetFrameProps(**props) if props else clip


def assert_same(got: vs.VideoNode, expected: vs.VideoNode, number: int = 0, limit: float = 0) -> None:
    """Frame `number` of both clips has the same samples, up to a limit."""
    for one, other in zip(read_planes(got, number), read_planes(expected, number), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=limit)


@pytest.fixture(scope="session")
def planes() -> Planes:
    """planes(clip, n) -> the planes of frame n as numpy arrays."""
    return read_planes


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """make_clip(frames, format, **props) -> a clip of these frames, each a list of planes."""
    return clip_of


@pytest.fixture(scope="session")
def noise() -> MakeClip:
    """noise(format, width, height, length=1, seed=0, **props) -> random samples, all over the format's values."""

    def make(format: int, width: int, height: int, length: int = 1, seed: int = 0, **props: Any) -> vs.VideoNode:
        random = np.random.default_rng(seed)
        blank = core.std.BlankClip(format=format, width=width, height=height, length=1)
        layout = blank.format

        def samples(plane: int, shape: tuple[int, ...]) -> np.ndarray:
            if layout.sample_type == vs.INTEGER:
                return random.integers(0, 1 << layout.bits_per_sample, shape)
            return random.random(shape) - (0.5 if plane and layout.color_family == vs.YUV else 0)

        shapes = [plane.shape for plane in read_planes(blank)]
        frames = [[samples(*each) for each in enumerate(shapes)] for _ in range(length)]
        return clip_of(frames, format, **props)

    return make


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What VapourSynth's log is told during the test."""
    lines: list[str] = []
    handle = core.add_log_handler(lambda _, message: lines.append(message))
    yield lines
    core.remove_log_handler(handle)
