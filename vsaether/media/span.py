"""The part of a film that is wanted."""

from dataclasses import dataclass
from fractions import Fraction

import av

from vsaether.errors import MediaError

from .formats import fraction

Moment = Fraction | int
"""A time in seconds since the first frame, or the number of a frame, from 0."""


@dataclass(frozen=True)
class Span:
    """Frames from ``start`` on, up to and without ``end``, and at most ``limit`` of them."""

    start: Moment | None = None
    end: Moment | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        start, end = self.start, self.end
        if start is not None and end is not None and type(start) is type(end) and end <= start:
            raise MediaError("--end is not behind --start; it is where the part that is wanted ends, not its length")

    @property
    def ends(self) -> bool:
        """Whether the end of the film may be left out."""
        return self.end is not None or self.limit is not None

    def before(self, number: int, time: Fraction) -> bool:
        """Whether a frame lies before it: the number, and the seconds since the first frame."""
        return self.start is not None and _at(self.start, number, time) < self.start

    def behind(self, number: int, time: Fraction) -> bool:
        """Whether a frame lies behind it."""
        return self.end is not None and _at(self.end, number, time) >= self.end

    def seconds(self, rate: Fraction) -> tuple[Fraction, Fraction | None]:
        """Where it begins and ends, in seconds since the first frame, as far as the rate tells."""
        begin = _time(self.start or 0, rate)
        ends = [] if self.end is None else [_time(self.end, rate)]
        ends += [] if self.limit is None else [begin + self.limit / rate]
        return begin, min(ends, default=None)

    def frames(self, known: int, rate: Fraction) -> int:
        """An estimate of its frames, of a film of ``known`` ones; 0 where there is none."""
        begin, end = self.seconds(rate)
        wanted = None if end is None else max(0, round((end - begin) * rate))
        left = max(0, known - round(begin * rate))
        return min(left, wanted) if known and wanted is not None else left if known else wanted or 0


WHOLE = Span()


def cut(packet: av.Packet, begin: Fraction | None, end: Fraction | None) -> bool:
    """Whether a packet of another stream belongs to a part, in seconds of the file.

    A subtitle that is shown across its borders is shortened to it; sound begins with the first packet inside.
    """
    time_base = fraction(packet.time_base)
    told = packet.pts if packet.pts is not None else packet.dts
    time = (told or 0) * time_base
    if end is not None and time >= end:
        return False
    text = told is not None and packet.stream.type == "subtitle" and packet.duration
    if begin is not None and time < begin:
        last = time + (packet.duration or 0) * time_base
        if not text or last <= begin:
            return False
        packet.pts = packet.dts = round(begin / time_base)
        packet.duration = round((last - begin) / time_base)
        time = begin
    if text and end is not None:
        packet.duration = min(packet.duration or 0, round((end - time) / time_base))
    return True


def _at(like: Moment, number: int, time: Fraction) -> Moment:
    return number if isinstance(like, int) else time


def _time(moment: Moment, rate: Fraction) -> Fraction:
    return moment / rate if isinstance(moment, int) else moment
