"""The input as it is wanted: as much of it as was asked for, its frames where they lie in the output."""

from collections.abc import Iterator
from fractions import Fraction

import av

from vsaether.errors import MediaError

from . import interrupts
from .changes import Changes
from .formats import fraction
from .images import ImageSource
from .packet_queue import PacketQueue
from .source import VideoSource
from .span import Span, cut
from .timing import Timing

LATE = 2  # seconds by which other streams may lie behind the video in a file


class Reader:
    """The frames of a source, each with its name, and the packets of its other streams, in the order of the file.

    What lies outside the span is left out; if that has a start, it is where the clock of ``timing`` starts. ``timing``
    places the frames, ``changes`` sees them as they were decoded. Raises MediaError if no frame lies in the span.
    """

    def __init__(
        self,
        source: VideoSource | ImageSource,
        span: Span,
        timing: Timing | None = None,
        changes: Changes | None = None,
    ) -> None:
        self.source = source
        self.frames = 0
        """How many there were so far."""
        self.pts = 0
        """When the last of them is shown, in the time base of the input."""
        self.begin: Fraction | None = None
        """Where the first frame begins in seconds of the input, if those before it were not wanted."""
        self.end: Fraction | None = None
        """Where the last frame ends in seconds of the input, if more were not wanted."""
        self._span = span
        self._timing = timing
        self._changes = changes
        self._waiting: dict[int, PacketQueue] = {}
        """Packets of each stream, of which it is not known yet whether they lie in the span."""
        self._folder = source.folder if isinstance(source, VideoSource) else None

    @property
    def total(self) -> int | None:
        """How many frames there will be: an estimate, if even that can be made."""
        info = self.source.info
        return self._span.frames(info.frames, info.rate) or None

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, str] | av.Packet]:
        span = self._span
        number, zero, last = -1, None, Fraction(-1 << 62)
        for item in self.source:
            interrupts.check()
            if isinstance(item, av.Packet):
                yield from self._taken(item, last)
                continue
            frame, name = item
            last = time = seconds(frame)
            number, zero = number + 1, time if zero is None else zero
            if self.end is not None:
                if time > self.end + LATE:
                    break
                continue
            if span.before(number, time - zero):
                for waiting in self._waiting.values():
                    while waiting and not cut(waiting.head, time, None):
                        waiting.popleft()
                continue
            if span.behind(number, time - zero):
                self.end = time
                if not self.frames:
                    break
                yield from self._decided(last)
                continue
            if span.start is not None and self.begin is None:
                self.begin = time
                if self._timing:
                    self._timing.start = time
            self.frames += 1
            self.pts = frame.pts or 0
            if self.frames == span.limit:
                self.end = time + (frame.duration or 0) * fraction(frame.time_base)
            if self._changes:
                self._changes.see(frame, name)
            if self._timing:
                self._timing.place(frame)
            yield from self._decided(last)
            yield frame, name
        if number >= 0 and not self.frames:
            raise MediaError(f"no frame lies where --start and --end ask for; {number + 1} frames were read")
        yield from self._decided(None)

    def _taken(self, packet: av.Packet, last: Fraction) -> Iterator[av.Packet]:
        """A packet of another stream, if it is known to lie in the span; else it waits."""
        if self._span.start is None and not self._span.ends:
            yield packet
            return
        index = packet.stream_index
        if index not in self._waiting:
            self._waiting[index] = PacketQueue(self._folder)
        self._waiting[index].append(packet)
        yield from self._decided(last)

    def _decided(self, last: Fraction | None) -> Iterator[av.Packet]:
        """The packets which lie in the span, and no longer wait; frames have come up to a time, or all (None)."""
        if self._span.start is not None and self.begin is None:
            return
        for waiting in self._waiting.values():
            while waiting:
                if self._span.ends and self.end is None and last is not None and seconds(waiting.head) >= last:
                    break
                packet = waiting.popleft()
                if cut(packet, self.begin, self.end):
                    yield packet


def seconds(item: av.VideoFrame | av.Packet) -> Fraction:
    """When something is presented; of a packet that does not tell, when it is decoded."""
    return (item.pts if item.pts is not None else item.dts or 0) * fraction(item.time_base)
