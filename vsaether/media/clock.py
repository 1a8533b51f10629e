"""A clock which never goes back. MPEG streams are joined by writing one behind the other: each has its own clock."""

from fractions import Fraction

import av

from .formats import fraction

_BACK = Fraction(1, 10)  # seconds; less is disorder, not another clock


class Clock:
    """Gives packets times which go on where the file's clock steps back: all streams are moved by the same time.

    The streams do not step back at the same packet, as they are interleaved: each goes on to the newest part of the
    file when it does, and what is seldom there, as subtitles are, is always in it. ``step`` is how long a packet lasts
    which does not tell.
    """

    def __init__(self, step: Fraction) -> None:
        self._step = step
        self._shifts = [Fraction(0)]
        self._parts: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._end = Fraction(0)

    def adjust(self, packet: av.Packet) -> None:
        """Move a packet, given in the order of the file."""
        dts = packet.dts
        if dts is None:
            return
        stream, time_base = packet.stream_index, fraction(packet.time_base)
        last, part = self._last.get(stream), len(self._shifts) - 1
        if packet.stream.type in ("video", "audio"):
            part = self._parts.setdefault(stream, 0)
            if last is not None and (last - dts) * time_base - self._shifts[part] > _BACK:
                part = self._parts[stream] = self._next(part, dts * time_base)
        if part:
            shift = round(self._shifts[part] / time_base)
            dts += shift
            if last is not None:  # two parts may overlap a little
                dts = max(dts, last + 1)
            packet.pts = None if packet.pts is None else max(packet.pts + shift, dts)
            packet.dts = dts
        self._last[stream] = dts
        self._end = max(self._end, dts * time_base + ((packet.duration or 0) * time_base or self._step))

    def _next(self, part: int, time: Fraction) -> int:
        """The newest part of the file; a newer one, which begins at a time, if ``part`` is that already."""
        if part == len(self._shifts) - 1:
            self._shifts.append(self._end - time)
        return len(self._shifts) - 1
