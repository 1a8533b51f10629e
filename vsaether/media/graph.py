"""Frames through VapourSynth: each frame is handed over, upscaled and handed back in order, with all its properties.

Frames are pushed, not pulled: the length of the input need not be known, and what VapourSynth asks for is always
there. One chain of filters is kept for each size, format and field structure.
"""

# pyright: reportAttributeAccessIssue=false

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os.path import splitext
from typing import Any

import av
import vapoursynth as vs

from vsaether.sizing import Sizing

from .exchange import copy_samples, lookup, padded, to_vs
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
        given = to_vs(frame, layout, tags)
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
        clip = lookup(pending, _LENGTH)
        target, wanted = self._target(layout, tags, suffix)
        interlaced = bool(first.props.get("_FieldBased", 0))
        made = whole = wished = self._sizing.of(*shown)
        coarser = [layout, target] if _holds_more(target, layout) else [layout]
        if (clip.width, clip.height) != shown or any(padded(each, *made, interlaced) != made for each in coarser):
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
            clip = _resized(clip, whole, size, padded(target, *size, "_FieldBased" in first.props), layout.alpha)
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
            copy_samples(result, frame, target)
        else:
            frame = lent(result, target, width, height) if self._lend else None
            if frame is None:
                frame = av.VideoFrame(width, height, target.pix_fmt)
                copy_samples(result, frame, target)
            frame.pts, frame.duration = source.pts, source.duration
            if source.time_base is not None:
                frame.time_base = source.time_base
        chain.tags.put(frame)
        frame.pict_type = 0
        return frame


def _resized(
    clip: vs.VideoNode, whole: tuple[int, int], size: tuple[int, int], room: tuple[int, int], alpha: bool
) -> vs.VideoNode:
    """The part of a clip which is its picture, as one of another size; both may be padded beyond the picture."""
    part = [whole[axis] * room[axis] / size[axis] for axis in (0, 1)]
    result = clip.resize.Spline36(*room, src_width=part[0], src_height=part[1])
    if alpha:
        opacity = clip.std.PropToClip("_Alpha").resize.Spline36(*room, src_width=part[0], src_height=part[1])
        result = result.std.ClipToProp(opacity, "_Alpha")
    return result


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
