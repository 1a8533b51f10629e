"""Where a film is cut: at scene changes, and nowhere else for as long as that keeps segments from getting too long."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import zlib
from fractions import Fraction

import numpy as np
import vapoursynth as vs

from .formats import Layout

LONGEST = Fraction(30)
"""Seconds a segment lasts at most, if not said otherwise: what a crash can cost."""
_SHORTEST = Fraction(1, 3)  # of the longest: encoders begin anew with each segment
_WIDTH = 160  # samples across, of which scenes are told apart


class Cutter:
    """Tells with which frames, given in the order of presentation, segments begin.

    What decides is whole numbers taken from the frames' own samples, so that it is the same on every machine. A segment
    lasts less than ``longest`` seconds, unless a single frame does.
    """

    def __init__(self, longest: Fraction = LONGEST) -> None:
        self._longest = longest
        self._shortest = longest * _SHORTEST
        self._start: Fraction | None = None
        self._kind: tuple[Layout, int, int] | None = None
        self._scenes = _Scenes() if hasattr(vs.core, "scd") else None

    def begins(self, planes: list[np.ndarray], layout: Layout, time: Fraction) -> bool:
        """Whether a segment begins with a frame of these planes, which is shown at a time in seconds."""
        height, width = planes[0].shape
        kind, before = (layout, width, height), self._kind
        self._kind = kind
        if self._start is None or kind != before or time - self._start >= self._longest:
            return self._begin(time)
        if self._scenes is None or time - self._start < self._shortest:
            return False
        return self._scenes.changes(_luma(planes[0], layout.bits)) and self._begin(time)

    def _begin(self, time: Fraction) -> bool:
        self._start = time
        if self._scenes:
            self._scenes.forget()
        return True


class _Scenes:
    """Compares each picture with the one before, by the plugin scenechange."""

    def __init__(self) -> None:
        self._pair: list[vs.VideoFrame] = []

    def forget(self) -> None:
        """The next picture is the first."""
        self._pair = []

    def changes(self, luma: np.ndarray) -> bool:
        """Whether a scene begins with a picture (8 bits). The first, with nothing to compare it with, begins none."""
        frame = vs.core.create_video_frame(vs.GRAY8, luma.shape[1], luma.shape[0])
        np.asarray(frame[0])[:] = luma
        self._pair = [*self._pair[-1:], frame]
        if len(self._pair) < 2:
            return False
        first, second = self._pair
        # The plugin takes the last frame of a clip for no scene's first.
        clip = vs.core.std.BlankClip(format=vs.GRAY8, width=first.width, height=first.height, length=3, keep=True)
        pictures = clip.std.ModifyFrame(clip, lambda n, f: second if n else first)
        with pictures.scd.Detect().get_frame(1) as result:
            return bool(result.props["_SceneChangePrev"])


def _luma(plane: np.ndarray, bits: int) -> np.ndarray:
    """Samples of a plane, some way apart, as 8 bits."""
    step = max(1, plane.shape[1] // _WIDTH)
    few = plane[step // 2 :: step, step // 2 :: step]
    if bits == 32:
        return (np.clip(few, 0, 1) * 255).astype(np.uint8)
    return (few >> (bits - 8)).astype(np.uint8)


def checksum(planes: list[np.ndarray], alpha: np.ndarray | None, before: int = 0) -> int:
    """The CRC-32 of a frame's samples behind those of the frames before."""
    for plane in planes if alpha is None else [*planes, alpha]:
        before = zlib.crc32(np.ascontiguousarray(plane), before)
    return before
