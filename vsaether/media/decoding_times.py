"""Decoding times of packets which are copied, where the file they come from does not tell them all."""

import heapq
from collections.abc import Iterator

import av

_MOST = 32  # packets; no codec reorders more than half as many


class DecodingTimes:
    """Completes the dts of one stream's packets, given in decoding order. Muxers want them to rise, and below pts.

    Matroska tells only when a packet is shown. FFmpeg computes the rest once it has seen by how much packets are
    reordered, but not for the first ones.
    """

    def __init__(self) -> None:
        self._waiting: list[av.Packet] = []
        self._shown: list[int] | None = None
        self._last: int | None = None

    def put(self, packet: av.Packet) -> list[av.Packet]:
        """Take a packet; the result is those, in order, whose dts are known by now."""
        if self._last is None and packet.dts is None and packet.pts is not None:
            self._waiting.append(packet)
            return [] if len(self._waiting) < _MOST else self.flush()
        if packet.dts is not None:
            return [*self._before(packet.dts), self._known(packet)]
        return [self._known(self._reordered(packet))]

    def flush(self) -> list[av.Packet]:
        """Those which still wait for a known dts."""
        waiting, self._waiting = self._waiting, []
        if waiting and self._shown is None:
            shown = [packet.pts or 0 for packet in waiting]
            ranks = {pts: rank for rank, pts in enumerate(sorted(shown))}
            depth = max(place - ranks[pts] for place, pts in enumerate(shown))
            step = max(1, waiting[0].duration or 1)
            self._shown = [min(shown) - step * place for place in range(depth, 0, -1)]
        return [self._known(self._reordered(packet)) for packet in waiting]

    def _before(self, dts: int) -> Iterator[av.Packet]:
        """The waiting packets, with times before that of the first whose is known."""
        waiting, self._waiting = self._waiting, []
        for packet in reversed(waiting):
            dts = min(dts - max(1, packet.duration or 1), packet.pts or 0)
            packet.dts = dts
        for packet in waiting:
            yield self._known(packet)

    def _reordered(self, packet: av.Packet) -> av.Packet:
        """Packets are decoded in the order of dts, and shown in that of pts: the n-th dts is at most the n-th pts."""
        if packet.pts is not None and self._shown is not None:
            packet.dts = heapq.heappushpop(self._shown, packet.pts)
        elif self._last is not None:
            packet.dts = self._last + 1
        return packet

    def _known(self, packet: av.Packet) -> av.Packet:
        if packet.dts is not None:
            self._last = packet.dts
        return packet
