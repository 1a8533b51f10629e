"""Packets of several streams, which come in any order, in that of their decoding times."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av

from .formats import fraction


class Interleaver:
    """Holds packets back until their time has come: each stream for itself, so that one ahead of its time is alone."""

    def __init__(self) -> None:
        self._held: dict[int, deque[tuple[Fraction, av.Packet]]] = {}

    def put(self, packet: av.Packet) -> None:
        """Take a packet, given in the order of its stream."""
        time = (packet.dts if packet.dts is not None else packet.pts or 0) * fraction(packet.time_base)
        self._held.setdefault(packet.stream_index, deque()).append((time, packet))

    def release(self, until: Fraction | None) -> Iterator[av.Packet]:
        """The packets up to a time, or all, in order."""
        while self._held:
            stream = min(self._held, key=lambda index: self._held[index][0][0])
            if until is not None and self._held[stream][0][0] > until:
                return
            yield self._held[stream].popleft()[1]
            if not self._held[stream]:
                del self._held[stream]
