"""The complete film: the packets of its segments joined, and all other streams beside them."""

import heapq
from collections.abc import Iterator
from fractions import Fraction

import av

from vsaether.errors import MediaError

from . import packets
from .formats import fraction
from .manifest import End, JobFolder, Record
from .muxer import VideoWriter
from .reading import LATE, seconds
from .source import VideoSource
from .span import cut

_NEVER = Fraction(1 << 62)
_AHEAD = Fraction(1)  # seconds of the input which are read ahead of the video


class DamagedSegmentError(MediaError):
    """A segment is not what was written; its record is gone, so that it will be made again."""


def joined(folder: JobFolder, records: list[Record], step: int) -> Iterator[av.Packet]:
    """The packets of all segments, with times of decoding which go on from each to the next.

    The n-th to be decoded is decoded when the n-th to be shown is shown, less the largest delay of any segment; the
    first ones are ``step`` apart. Raises DamagedSegmentError.
    """
    delay = max(record.delay for record in records)
    times: list[int] | None = None
    for record in records:
        if folder.valid(record.number) != record:
            folder.forget(record.number)
            raise DamagedSegmentError(f"segment {record.number} was damaged after it had been written")
        for packet in packets.read(folder.packets(record.number)):
            pts = packet.pts or 0
            if times is None:
                times = [pts - step * place for place in range(delay, 0, -1)]
            packet.dts = heapq.heappushpop(times, pts)
            yield packet


def copied(
    source: VideoSource, begin: Fraction | None, end: Fraction | None
) -> Iterator[tuple[Fraction, av.Packet | None]]:
    """The packets of a source besides its video, as a run in one pass takes them: from ``begin`` to ``end``, if
    there are such.

    Each comes with the time up to which the file has been read, in seconds; None stands for one of the video.
    """
    for packet in source.packets():
        time = seconds(packet)
        if packet.stream is not source.stream:
            if cut(packet, begin, end):
                yield time, packet
        elif end is not None and time > end + LATE:
            return
        else:
            yield time, None


class _Others:
    """The packets besides the video, copied as far as they are wanted."""

    def __init__(self, writer: VideoWriter, source: VideoSource, end: End) -> None:
        self._writer = writer
        self._rest = copied(source, end.begin, end.end) if writer.copies else iter(())
        sounds = [stream.index for stream in source.others if stream.type == "audio" and writer.takes(stream.index)]
        self._read = dict.fromkeys([source.stream.index, *sounds], -_NEVER)
        """Up to which time each stream has been read, of those which have something at any time."""
        self._video = source.stream.index

    def copy(self, until: Fraction) -> None:
        """Copy on, until the video and all sound have been read up to a time, however far apart they are in the file.

        What is ahead of the video waits in the writer.
        """
        while min(self._read.values()) < until:
            time, packet = next(self._rest, (_NEVER, None))
            if time == _NEVER:
                self._read = dict.fromkeys(self._read, _NEVER)
            elif packet is None:
                self._read[self._video] = time
            else:
                if packet.stream_index in self._read:
                    self._read[packet.stream_index] = time
                self._writer.copy(packet)


def assemble(writer: VideoWriter, source: VideoSource, folder: JobFolder, records: list[Record], end: End) -> None:
    """Write a film of complete segments into a file that has been opened.

    Raises DamagedSegmentError, or MediaError where segments do not fit together.
    """
    if any(record.extradata != writer.video.extradata for record in records):
        raise MediaError("the headers of the segments differ; remove the job and begin again")
    info, frames = source.info, 0
    step = max(1, round(1 / info.rate / writer.timing.time_base))
    others = _Others(writer, source, end)
    for packet in joined(folder, records, step):
        frames += 1
        others.copy((packet.dts or 0) * fraction(packet.time_base) + writer.timing.start + _AHEAD)
        writer.put(packet)
    others.copy(_NEVER)
    if frames != end.frames:
        raise MediaError(f"the segments hold {frames} frames of {end.frames}; remove the job and begin again")
    writer.close(flush=False)
