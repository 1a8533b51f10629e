"""Segments as they are planned, where other processes are to make them."""

from collections.abc import Iterator

import av

from .cuts import Cutter, checksum
from .formats import planar
from .manifest import SegmentPlan
from .reading import Reader, seconds


def plans(reader: Reader, cutter: Cutter) -> Iterator[SegmentPlan]:
    """The plans of all segments of a film, each as soon as its last frame has been read."""
    number, first, start, crc = 0, 0, 0, 0
    times: list[tuple[int, int]] = []
    for item in reader:
        if isinstance(item, av.Packet):
            continue
        frame, layout = planar(item[0])
        planes, alpha = layout.planes(frame)
        if cutter.begins(planes, layout, seconds(frame)):
            if times:
                yield SegmentPlan(number, first, start, crc, times)
            number, first, start, crc, times = number + 1, reader.frames - 1, reader.pts, 0, []
        crc = checksum(planes, alpha, crc)
        times.append((frame.pts or 0, frame.duration or 0))
    if times:
        yield SegmentPlan(number, first, start, crc, times)
