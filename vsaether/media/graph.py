"""Frames through VapourSynth: each frame is handed over, upscaled and handed back in order, with all its properties.

Frames are pushed, not pulled: the length of the input need not be known, and what VapourSynth asks for is always
there. One chain of filters is kept for each size, format and field structure.
"""

# pyright: reportAttributeAccessIssue=false

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os.path import splitext
from typing import Any

import av
import numpy as np
import vapoursynth as vs

from vsaether.sizing import Sizing

from .formats import UNTAGGED, Layout, Tags, complete, planar
from .lent import lent

Upscale = Callable[[vs.VideoNode, int, int], vs.VideoNode]
Target = Callable[[Layout, Tags, str], tuple[Layout, Tags]]

_LENGTH = 1 << 16  # frames of one chain; its tiles one after the other must fit VapourSynth, too
_CHAINS = 4
_UNSPECIFIED = 2
_FULL = 2


@dataclass
class _Chain:
    node: vs.VideoNode
    layout: Layout
    tags: Tags
    size: tuple[int, int]
    pending: dict[int, vs.VideoFrame]
    count: int = 0


@dataclass
class _Queued:
    number: int
    frame: av.VideoFrame
    chain: _Chain
    future: Any
    name: str


class FrameUpscaler:
    """Upscales frames one after the other, ``depth`` of them at a time.

    ``upscale`` is applied to a clip of each kind of frame met, and makes of it a width and height; ``target`` gives the
    layout and tags wanted for frames of a layout and tags whose names have a suffix. ``sizing`` says how large frames
    become; with a ``size``, those of which that makes another are resized to it. ``carries`` tells of which frames the
    results must be given what PyAV cannot set: side data and field flags. With ``lend``, the others' samples are lent
    and not copied (see lent.py).
    """

    def __init__(
        self,
        upscale: Upscale,
        sizing: Sizing,
        target: Target,
        depth: int,
        size: tuple[int, int] | None = None,
        carries: Callable[[av.VideoFrame], bool] = lambda frame: True,
        dither: str = "ordered",
        lend: bool = False,
    ) -> None:
        self._lend = lend
        self._dither = dither
        self._upscale = upscale
        self._sizing = sizing
        self._target = target
        self._depth = depth
        self._size = size
        self._carries = carries
        self._chains: OrderedDict[tuple, _Chain] = OrderedDict()
        self._queue: deque[_Queued] = deque()

    def push(self, frame: av.VideoFrame, name: str) -> Iterator[tuple[av.VideoFrame, str]]:
        """Hand a frame over, and get the finished ones for which there is no more room in the queue."""
        frame, layout = planar(frame)
        tags = complete(Tags.of(frame), layout, frame.width, frame.height)
        given = _to_vs(frame, layout, tags)
        suffix = splitext(name)[1].lower()  # a Path would keep each name for good (CPython 3.12 interns its parts)
        key = (layout, tags, suffix, frame.width, frame.height, frame.interlaced_frame)
        chain = self._chains.get(key)
        if chain is None or chain.count == _LENGTH:
            chain = self._chains[key] = self._build(layout, tags, suffix, given, (frame.width, frame.height))
            if len(self._chains) > _CHAINS:
                self._chains.popitem(last=False)
        self._chains.move_to_end(key)
        number = chain.count
        chain.count += 1
        chain.pending[number] = given
        self._queue.append(_Queued(number, frame, chain, chain.node.get_frame_async(number), name))
        while len(self._queue) > self._depth:
            yield self._finish(self._queue.popleft())

    def flush(self) -> Iterator[tuple[av.VideoFrame, str]]:
        """The frames still in the queue."""
        while self._queue:
            yield self._finish(self._queue.popleft())

    def close(self) -> None:
        """Wait for the frames in work and forget them."""
        while self._queue:
            self._queue.popleft().future.exception()
        self._chains.clear()

    def _build(self, layout: Layout, tags: Tags, suffix: str, first: vs.VideoFrame, shown: tuple[int, int]) -> _Chain:
        pending = {0: first}
        clip = _clip(pending, _LENGTH)
        target, wanted = self._target(layout, tags, suffix)
        interlaced = bool(first.props.get("_FieldBased", 0))
        made = whole = wished = self._sizing.of(*shown)
        coarser = [layout, target] if _holds_more(target, layout) else [layout]
        if (clip.width, clip.height) != shown or any(_padded(each, *made, interlaced) != made for each in coarser):
            # All of it through the network, and then the part that is the picture.
            factor = self._sizing.scale ** self._sizing.passes(*shown)
            made = clip.width * factor, clip.height * factor
            whole = shown[0] * factor, shown[1] * factor
        if _holds_more(target, layout):
            clip = self._upscale(_convert(clip, layout, tags, target, wanted, self._dither), *made)
        else:
            clip = _convert(self._upscale(clip, *made), layout, tags, target, wanted, self._dither)
        size = self._size or wished
        if size != whole:
            clip = _resized(clip, whole, size, _padded(target, *size, "_FieldBased" in first.props), layout.alpha)
        return _Chain(clip, target, wanted, size, pending)

    def _finish(self, queued: _Queued) -> tuple[av.VideoFrame, str]:
        try:
            result = queued.future.result()
        finally:
            queued.chain.pending.pop(queued.number, None)
        return self._to_av(result, queued.frame, queued.chain), queued.name

    def _to_av(self, result: vs.VideoFrame, source: av.VideoFrame, chain: _Chain) -> av.VideoFrame:
        target, (width, height) = chain.layout, chain.size
        if self._carries(source):
            # A scaled copy has it all; of a small copy, as its samples are replaced.
            UNTAGGED.put(source)
            frame = source.reformat(16, 16, target.pix_fmt, interpolation="POINT")
            frame = frame.reformat(width, height, interpolation="POINT")
            frame.make_writable()
            _copy(result, frame, target)
        else:
            frame = lent(result, target, width, height) if self._lend else None
            if frame is None:
                frame = av.VideoFrame(width, height, target.pix_fmt)
                _copy(result, frame, target)
            frame.pts, frame.duration = source.pts, source.duration
            if source.time_base is not None:
                frame.time_base = source.time_base
        chain.tags.put(frame)
        frame.pict_type = 0
        return frame


def still(frame: av.VideoFrame) -> vs.VideoNode:
    """A clip of one frame."""
    frame, layout = planar(frame)
    tags = complete(Tags.of(frame), layout, frame.width, frame.height)
    return _clip({0: _to_vs(frame, layout, tags)}, 1)


def prop(clip: vs.VideoNode, name: str, default: Any = None) -> Any:
    """A property of a clip's first frame."""
    with clip.get_frame(0) as frame:
        return frame.props.get(name, default)


def to_av(result: vs.VideoFrame) -> av.VideoFrame:
    """A planar frame of VapourSynth as one of FFmpeg, with its samples alone."""
    given = result.format
    sub = given.subsampling_w, given.subsampling_h
    layout = Layout(given.color_family, given.bits_per_sample, sub)
    frame = av.VideoFrame(result.width, result.height, layout.pix_fmt)
    _copy(result, frame, layout)
    return frame


def _copy(result: vs.VideoFrame, frame: av.VideoFrame, layout: Layout) -> None:
    """Give a frame of that layout the samples of another one, which may be larger."""
    planes, alpha = layout.planes(frame)
    for number, plane in enumerate(planes):
        plane[:] = np.asarray(result[number])[: plane.shape[0], : plane.shape[1]]
    if alpha is None:
        return
    given = result.props.get("_Alpha")
    if isinstance(given, vs.VideoFrame):
        samples = np.asarray(given[0])[: frame.height, : frame.width]
        alpha[:] = _rescaled(samples, given.format.bits_per_sample, layout.bits)
    else:
        alpha[:] = 1 if layout.bits == 32 else (1 << layout.bits) - 1


def _clip(pending: dict[int, vs.VideoFrame], length: int) -> vs.VideoNode:
    """A clip whose frames are looked up in ``pending``, which holds the first."""
    first = pending[0]
    blank = vs.core.std.BlankClip(
        width=first.width, height=first.height, format=first.format.id, length=length, keep=True
    )
    return vs.core.std.ModifyFrame(blank, blank, lambda n, f: pending[n])


def _padded(layout: Layout, width: int, height: int, interlaced: bool) -> tuple[int, int]:
    """The next size whose chroma VapourSynth can hold; of both fields, if there are two."""
    across, down = (1 << sub for sub in layout.subsampling)
    down <<= interlaced
    return math.ceil(width / across) * across, math.ceil(height / down) * down


def _to_vs(frame: av.VideoFrame, layout: Layout, tags: Tags) -> vs.VideoFrame:
    width, height = _padded(layout, frame.width, frame.height, frame.interlaced_frame)
    result = vs.core.create_video_frame(layout.vs_format, width, height)
    planes, alpha = layout.planes(frame)
    for number, plane in enumerate(planes):
        _fill(np.asarray(result[number]), plane)
    props = result.props
    if alpha is not None:
        mask = vs.core.create_video_frame(layout.vs_alpha, width, height)
        _fill(np.asarray(mask[0]), alpha)
        mask.props["_Range"] = vs.RANGE_FULL
        props["_Alpha"] = mask
    props["_FieldBased"] = vs.FIELD_TOP if frame.interlaced_frame else vs.FIELD_PROGRESSIVE
    props.update(tags.props(layout))
    return result


def _resized(
    clip: vs.VideoNode, whole: tuple[int, int], size: tuple[int, int], padded: tuple[int, int], alpha: bool
) -> vs.VideoNode:
    """The part of a clip which is its picture, as one of another size; both may be padded beyond the picture."""
    part = [whole[axis] * padded[axis] / size[axis] for axis in (0, 1)]
    result = clip.resize.Spline36(*padded, src_width=part[0], src_height=part[1])
    if alpha:
        opacity = clip.std.PropToClip("_Alpha").resize.Spline36(*padded, src_width=part[0], src_height=part[1])
        result = result.std.ClipToProp(opacity, "_Alpha")
    return result


def _fill(target: np.ndarray, plane: np.ndarray) -> None:
    """Copy a plane into a target which may be larger: its last row and column go on."""
    height, width = plane.shape
    target[:height, :width] = plane
    target[:height, width:] = plane[:, -1:]
    target[height:] = target[height - 1]


def _rescaled(plane: np.ndarray, bits: int, target: int) -> np.ndarray:
    """Full-range samples of one depth as samples of another."""
    if bits == target:
        return plane
    largest, wanted = (1 if depth == 32 else (1 << depth) - 1 for depth in (bits, target))
    scaled = plane.astype(np.float64) * (wanted / largest)
    return scaled if target == 32 else np.rint(scaled)


def _holds_more(target: Layout, source: Layout) -> bool:
    """Whether converting before upscaling keeps what converting after it would lose."""
    if target.family != source.family:
        return target.family == vs.RGB
    finer = any(a < b for a, b in zip(target.subsampling, source.subsampling, strict=True))
    return target.bits > source.bits or finer


def _convert(clip: vs.VideoNode, source: Layout, tags: Tags, target: Layout, wanted: Tags, dither: str) -> vs.VideoNode:
    """The clip in another layout, and read by other tags; the same clip if nothing is to be done."""
    names = ("colorspace", "color_range", "color_trc", "color_primaries")
    before, after = ([getattr(each, name) for name in names] for each in (tags, wanted))
    if target.vs_format.id == source.vs_format.id and before == after:
        return clip
    arguments: dict[str, int] = {}
    if target.family == vs.YUV:
        arguments["matrix"] = wanted.colorspace
    if wanted.color_range:
        arguments["range"] = vs.RANGE_FULL if wanted.color_range == _FULL else vs.RANGE_LIMITED
    if before[2:] != after[2:] and all(value not in (0, _UNSPECIFIED) for value in (*before[2:], *after[2:])):
        arguments |= {"transfer": wanted.color_trc, "primaries": wanted.color_primaries}
    return clip.resize.Bicubic(format=target.vs_format.id, dither_type=dither, **arguments)
