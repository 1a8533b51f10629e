"""Reuse: what was computed once is not computed again.

A frame whose samples and tags of colour equal those of another one in every bit has the other one's result: it is not
even converted. Behind the conversion to RGB, so has a tile (with its overlap) or a frame's alpha. On the backend
native, whose output is the same however a frame is parted, of a frame that differs only in places only these are
computed, with all the pixels that they depend on; other backends' output may depend on the size of what they are given,
so there a frame or tile is the least. Samples are compared, not taken for equal by a hash, so the result is the same as
without, bit for bit, in whatever order frames are asked for.

Comparing is the native plugin's work (native/reuse.cpp, native/regions.hpp): a Python function for every frame would
hold the interpreter's lock while it compares.
"""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from collections.abc import Callable, Sequence

import vapoursynth as vs

from . import tiling

KEPT = 256 << 20
"""Bytes of frames and their results which are kept, those met last; on a small machine a twelfth of what tiles may be.
One result is always kept, however large."""

_WAITING = 4
"""Results that the network's node itself keeps: a frame equal to one just done may ask for it again."""

_FRAMES = 2
"""Of how many frames the network's own floats are kept, for what equals the frame before in places: tiles and alpha.
Whole frames that return after longer are known to `finish_once`, in a fraction of the bytes. What is kept costs time
where nothing repeats: the next frame gets memory that is new to the processor."""


def available() -> bool:
    """Whether the native plugin is there, and of this version."""
    plugin = getattr(vs.core, "aether", None)
    return plugin is not None and hasattr(plugin, "Reuse") and "pixels:" in plugin.Reuse.signature


def compute_once(rgb: vs.VideoNode, infer: Callable[[vs.VideoNode], vs.VideoNode], period: int) -> vs.VideoNode:
    """Pass a clip through infer, a network; of frames with equal samples only one.

    ``period`` of the clip's frames, tiles for instance, make one of the film.
    """
    result = infer(rgb)
    for node in (rgb, result):
        node.std.SetVideoCache(mode=1, fixedsize=True, maxsize=_WAITING)
    return vs.core.aether.Reuse(rgb, result, min(_kept(), _FRAMES * period * (_bytes(rgb) + _bytes(result))))


def finish_once(clip: vs.VideoNode, result: vs.VideoNode, props: Sequence[str], pixels: int) -> vs.VideoNode:
    """What a filter makes of a clip: of frames with equal samples and props, whole numbers which decide, only one.

    With that, converting a frame that repeats is spared as well. ``pixels`` pass the network for a frame; they are
    counted there (see ReuseMeter), and here only if they need not.
    """
    result.std.SetVideoCache(mode=1, fixedsize=True, maxsize=_WAITING)
    return vs.core.aether.Reuse(clip, result, _kept(), props, pixels)


def _bytes(clip: vs.VideoNode) -> int:
    """Of the samples of a frame, which are not subsampled."""
    return clip.width * clip.height * clip.format.num_planes * clip.format.bytes_per_sample


def _kept() -> int:
    return min(KEPT, tiling.budget() // 12)


class ReuseMeter:
    """What share of the pixels upscaled in this process since its making needed no computation."""

    def __init__(self) -> None:
        self._then = counted()

    @property
    def share(self) -> float | None:
        """From 0 (all were computed) to 1; None if this process upscaled none, but perhaps others for it."""
        asked, reused = (now - then for now, then in zip(counted(), self._then, strict=True))
        return reused / asked if asked else None


def counted() -> tuple[int, int]:
    """Pixels that networks of this process were asked to upscale, and those among them that were not computed."""
    asked, reused = vs.core.aether.Reused() if available() else (0, 0)
    return asked, reused
