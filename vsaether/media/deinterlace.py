"""Interlaced or telecined frames made whole, one of each: FFmpeg's bwdif and fieldmatch, in a filter graph."""

from collections.abc import Iterator
from fractions import Fraction

import av
from av.error import FFmpegError
from av.filter import Graph

from vsaether.errors import MediaError

from .formats import fraction

_BWDIF = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")

MODES = {
    "flagged": [_BWDIF],
    "top": [("bwdif", "mode=send_frame:parity=tff:deint=all")],
    "bottom": [("bwdif", "mode=send_frame:parity=bff:deint=all")],
    "telecine": [("fieldmatch", "combmatch=full"), _BWDIF],
}
"""Which frames: those that are flagged as interlaced, or all, of which the top or the bottom field comes first; or
telecined ones: fields of one picture of the film are put together again, and what still has combs is deinterlaced. Each
picture of the film is there as often as before: a fifth of the frames repeats.
"""


def deinterlaced(items: Iterator[av.VideoFrame | av.Packet], mode: str) -> Iterator[av.VideoFrame | av.Packet]:
    """The same packets and as many frames, at the same times; each frame comes when the next is known."""
    graph, kind, time_base = None, None, Fraction(1)
    for item in items:
        if isinstance(item, av.Packet):
            yield item
            continue
        if graph is None or kind != (item.width, item.height, item.format.name):
            if graph:
                yield from _made(graph, None, time_base)
            kind, time_base = (item.width, item.height, item.format.name), fraction(item.time_base)
            graph = _graph(item, mode)
        yield from _made(graph, item, time_base)
    if graph:
        yield from _made(graph, None, time_base)


def _graph(frame: av.VideoFrame, mode: str) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=fraction(frame.time_base)
    )
    try:
        graph.link_nodes(source, *(graph.add(*each) for each in MODES[mode]), graph.add("buffersink"))
        graph.configure()
    except (FFmpegError, ValueError) as error:
        raise MediaError(f"{frame.format.name} cannot be deinterlaced: {error}") from error
    return graph


def _made(graph: Graph, frame: av.VideoFrame | None, time_base: Fraction) -> Iterator[av.VideoFrame]:
    graph.push(frame)
    while True:
        try:
            made = graph.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(made, av.VideoFrame)
        factor = fraction(made.time_base) / time_base  # the filter's clock ticks twice as often
        if made.pts is not None:
            made.pts = round(made.pts * factor)
        made.duration = round(made.duration * factor)
        made.time_base = time_base
        yield made
