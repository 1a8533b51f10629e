"""The input as it is wanted: as much of it as was asked for, its frames where they lie in the output."""

from collections.abc import Iterator
from fractions import Fraction

import av

from .changes import Changes
from .formats import fraction
from .images import ImageSource
from .source import VideoSource
from .timing import Timing

LATE = 2  # seconds by which other streams may lie behind the video in a file


class Reader:
    """The frames of a source, each with its name, and the packets of its other streams, in the order of the file.

    At most ``limit`` frames, and packets up to their end; ``timing`` places the frames, ``changes`` sees them as they
    were decoded.
    """

    def __init__(
        self,
        source: VideoSource | ImageSource,
        limit: int | None,
        timing: Timing | None = None,
        changes: Changes | None = None,
    ) -> None:
        self.source = source
        self.frames = 0
        """How many there were so far."""
        self.pts = 0
        """When the last of them is shown, in the time base of the input."""
        self.end: Fraction | None = None
        """Where the last frame ends in seconds of the input, if more were not wanted."""
        self._limit = limit
        self._timing = timing
        self._changes = changes

    @property
    def total(self) -> int | None:
        """How many frames there will be: an estimate, if even that can be made."""
        known = self.source.info.frames
        return min(known, self._limit) if known and self._limit else known or self._limit or None

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, str] | av.Packet]:
        for item in self.source:
            if isinstance(item, av.Packet):
                if self.end is None or seconds(item) < self.end:
                    yield item
                continue
            frame, name = item
            if self.end is not None:
                if seconds(frame) > self.end + LATE:
                    break
                continue
            self.frames += 1
            self.pts = frame.pts or 0
            if self.frames == self._limit:
                self.end = seconds(frame) + (frame.duration or 0) * fraction(frame.time_base)
            if self._changes:
                self._changes.see(frame, name)
            if self._timing:
                self._timing.place(frame)
            yield frame, name


def seconds(item: av.VideoFrame | av.Packet) -> Fraction:
    """When something is presented; of a packet that does not tell, when it is decoded."""
    return (item.pts if item.pts is not None else item.dts or 0) * fraction(item.time_base)
