"""Packets of several streams, which come in any order, in that of their decoding times."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from .formats import fraction
from .packet_queue import PacketQueue


class Interleaver:
    """Holds packets back until their time has come: each stream for itself, so that one ahead of its time is alone.

    A stream which is far ahead waits in a temporary file of a ``folder``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._held: dict[int, PacketQueue] = {}

    def put(self, packet: av.Packet) -> None:
        """Take a packet, given in the order of its stream."""
        index = packet.stream_index
        if index not in self._held:
            self._held[index] = PacketQueue(self._folder)
        self._held[index].append(packet)

    def release(self, until: Fraction | None) -> Iterator[av.Packet]:
        """The packets up to a time, or all, in order."""
        while waiting := [queue for queue in self._held.values() if queue]:
            queue = min(waiting, key=lambda each: decoding_time(each.head))
            if until is not None and decoding_time(queue.head) > until:
                return
            yield queue.popleft()


def decoding_time(packet: av.Packet) -> Fraction:
    """When a packet is decoded, in seconds; of one that does not tell, when it is presented."""
    return (packet.dts if packet.dts is not None else packet.pts or 0) * fraction(packet.time_base)
