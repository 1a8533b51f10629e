"""Reading a video file: frames of one video stream with their timestamps, and the packets of all other streams.

FFmpeg decodes, through PyAV: in one pass, so that work begins with the first frame and the packets of other streams
come in the file's order. BestSource would first decode the whole file to index it, cuts odd 4:2:0 sizes to even ones,
and does not tell timestamps.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition

from vsaether.errors import MediaError

from . import hdr
from .decoding import (
    TIME_BASE,
    TS_DISCONT,
    Damage,
    decode,
    duration,
    frame_rate,
    make_decoder,
    open_file,
    other_streams,
    video_stream,
)
from .deinterlace import deinterlaced
from .formats import AS_TAGGED, TagOverride, Tags, complete, fraction, planar
from .info import VideoInfo
from .packet_queue import PacketQueue
from .timing import Grid

_PROBED = 16
_PROBED_PIXELS = 1 << 28
_ONE_PACKET = (None, Fraction(1))
_FRAGILE = ("png", "apng")  # PyAV's access to side data crashes on the named colour profile of a PNG


class VideoSource:
    """An opened video file, which may be a pipe: it is read once. ``info`` describes its video; iterate over it once.

    Packets which come in the file before the first frames wait in a ``folder``, if they are many. ``interlaced`` says
    that frames behind the first ones are.

    Raises MediaError if the file cannot be opened, or holds no video which can be decoded.
    """

    def __init__(
        self,
        path: Path,
        tags: TagOverride = AS_TAGGED,
        deinterlace: str | None = None,
        folder: Path | None = None,
        interlaced: bool = False,
    ) -> None:
        self._deinterlace = deinterlace
        self.path = path
        self.folder = folder
        self._tags = tags
        self.damage = Damage()
        """What has been found damaged so far."""
        self.missing = 0
        """Frames of which the file tells, but whose place is behind its end: it is cut off. Known when all are read."""
        self.notices: list[str] = []
        """What changed on the way, and the result cannot follow."""
        self.covers: dict[int, bytes] = {}
        """The pictures of the streams which are one attached picture each."""
        self.decoding = True
        """Whether the packets of the video become frames."""
        self.container = open_file(path)
        try:
            self.stream = video_stream(self.container, path)
            self.others = other_streams(self.container, self.stream)
            self.decoder = make_decoder(self.stream)
            self._ahead: deque[tuple[av.VideoFrame | None, Fraction]] = deque()
            self._packets = PacketQueue(folder)  # one for each None
            self._rest = self._read()
            self.info, self._by_dts = self._probe(interlaced)
        except BaseException:
            self.container.close()
            raise

    @property
    def start(self) -> Fraction:
        """Where the clock starts in seconds, if that is arbitrary, as in MPEG streams; else 0."""
        if not self.container.format.flags & TS_DISCONT:
            return Fraction(0)
        starts = [
            stream.start_time * fraction(stream.time_base)
            for stream in self.container.streams
            if stream.start_time is not None
        ]
        return min(starts, default=Fraction(0))

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, str] | av.Packet]:
        """Frames of the video with a number for a name, in the order of presentation, and packets of the others."""
        usual = max(1, round(1 / self.info.rate / self.info.time_base))
        last, step = None, 0
        number = 0
        end, first_aspect = Fraction(0), None
        while (found := self._next()) is not None:
            item, aspect = found
            if isinstance(item, av.VideoFrame):
                pts = item.dts if self._by_dts and item.dts is not None else item.pts
                if pts is None:
                    pts = 0 if last is None else last + step
                elif last is not None and pts <= last:
                    pts = last + 1
                item.pts = last = pts
                step = item.duration or usual
                number += 1
                self.damage.frames += item.is_corrupt
                first_aspect = first_aspect or aspect
                self._tell_aspect(first_aspect, aspect, number)
                end = max(end, (pts + step) * self.info.time_base)
                yield item, f"{number:06d}"
            else:
                end = max(end, _end(item))
                yield item
        if number:
            self.missing = self._missing(number, (last or 0) + step, usual, end)

    def packets(self) -> Iterator[av.Packet]:
        """The packets of all streams in the order of the file, none of them decoded: instead of iterating."""
        self.decoding = False
        while (found := self._next()) is not None:
            if isinstance(found[0], av.Packet):
                yield found[0]

    def frames_from(self, pts: int) -> Iterator[av.VideoFrame]:
        """Frames from a key frame which is shown at or before a time, as far as the file tells; instead of iterating.

        Some are not what they would be from the start on, and a clock which steps back is followed only from there on:
        the caller compares them. Raises av.FFmpegError where the file cannot be searched.
        """
        self._ahead.clear()
        self._packets = PacketQueue()
        self.container.seek(pts, stream=self.stream)
        self.decoder.flush_buffers()
        self._rest = self._read()
        for item, _ in self._rest:
            if isinstance(item, av.VideoFrame):
                item.pts = item.dts if self._by_dts and item.dts is not None else item.pts
                yield item

    def carries(self, frame: av.VideoFrame) -> bool:
        """Whether a frame has field flags, or side data which encoders are given with it."""
        if frame.interlaced_frame or self.decoder.name in _FRAGILE:
            return True
        return any(kind not in hdr.STREAM_WIDE for kind in frame.side_data)

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _read(self) -> Iterator[tuple[av.VideoFrame | av.Packet, Fraction]]:
        """What is decoded, each with the sample aspect ratio the video has by then (PyAV's frames do not tell it)."""
        items = decode(self.container, self.stream, self.decoder, self.damage, lambda: self.decoding)
        if self._deinterlace:
            items = deinterlaced(items, self._deinterlace)
        for item in items:
            if isinstance(item, av.VideoFrame):
                self._tags.put(item)
            yield item, fraction(self.decoder.sample_aspect_ratio or 1) or Fraction(1)

    def _next(self) -> tuple[av.VideoFrame | av.Packet, Fraction] | None:
        if not self._ahead:
            return next(self._rest, None)
        frame, aspect = self._ahead.popleft()
        return (self._packets.popleft() if frame is None else frame), aspect

    def _fetch(self) -> av.VideoFrame | av.Packet | None:
        """Read ahead."""
        item, aspect = next(self._rest, (None, Fraction(1)))
        if isinstance(item, av.Packet):
            self._packets.append(item)
            self._ahead.append(_ONE_PACKET)
        elif item is not None:
            self._ahead.append((item, aspect))
        return item

    def _tell_aspect(self, first: Fraction, aspect: Fraction, number: int) -> None:
        if aspect != first and not self.notices:
            self.notices.append(
                f"the sample aspect ratio changes from {first.numerator}:{first.denominator} to {aspect.numerator}:"
                f"{aspect.denominator} at about {number:06d}; the output keeps the first"
            )

    def _missing(self, number: int, last: int, usual: int, end: Fraction) -> int:
        """How many frames lie behind the end of the file, of which ``number`` are read, up to the time ``last``.

        Only these formats tell their length; it is estimated of others. ``end`` is that of all streams.
        """
        if "mp4" in self.container.format.name:
            told = (self.stream.start_time or 0) + (self.stream.duration or 0)
            if told - last < usual:
                return 0
            # Without those which an edit list leaves out.
            return max(0, sum(not entry.is_discard for entry in self.stream.index_entries) - number)
        told = Fraction(0)
        if self.container.format.name in ("matroska,webm", "flv") and self.container.duration:
            told = Fraction(self.container.duration + (self.container.start_time or 0), TIME_BASE)
        elif self.container.format.name == "avi":
            told = self.stream.frames / self.info.rate
        gap = (told - end) * self.info.rate
        return round(gap) if gap > Fraction(3, 2) else 0

    def _probe(self, interlaced: bool) -> tuple[VideoInfo, bool]:
        """Decode the first frames ahead: much is only told there. Also whether pts are wrong, but dts right."""
        context, stream = self.stream.codec_context, self.stream
        told, field_order = context.coded_side_data, context.field_order
        frames: list[av.VideoFrame] = []
        most = _PROBED
        while len(frames) < most and (item := self._fetch()) is not None:
            if isinstance(item, av.VideoFrame):
                frames.append(item)
                most = max(4, min(_PROBED, _PROBED_PIXELS // (item.width * item.height)))
            elif item.stream.disposition & Disposition.attached_pic:
                self.covers.setdefault(item.stream_index, bytes(item))
        if not frames:
            raise MediaError(f"{self.path}: no frame of its video ({context.name}) can be decoded")
        first, layout = planar(frames[0])
        side_data = {}
        if context.name not in _FRAGILE:
            side_data = {kind: bytes(data) for kind, data in first.side_data.items()}
        by_dts = not _increasing([f.pts for f in frames]) and _increasing([f.dts for f in frames])
        rates = (fraction(each or 0) for each in (stream.guessed_rate, stream.base_rate, stream.average_rate))
        times = [f.dts if by_dts else f.pts for f in frames]
        grid = Grid.find(times, fraction(stream.time_base), rates)
        rate = grid.rate if grid else frame_rate(stream)
        fields = [frame.interlaced_frame for frame in frames]
        info = VideoInfo(
            width=first.width,
            height=first.height,
            layout=layout,
            tags=complete(Tags.of(first), layout, first.width, first.height),
            sample_aspect_ratio=fraction(stream.sample_aspect_ratio or 0),
            rate=rate,
            time_base=fraction(stream.time_base),
            frames=stream.frames or round(duration(self.container, stream) * rate),
            interlaced=interlaced or any(fields),
            mixed=(interlaced or any(fields)) and not all(fields),
            field_order=field_order,
            display_matrix=told.get("display_matrix") or side_data.get(SideData.DISPLAYMATRIX),
            mastering=told.get("mastering_display_metadata") or side_data.get(SideData.MASTERING_DISPLAY_METADATA),
            light_level=told.get("content_light_level") or side_data.get(SideData.CONTENT_LIGHT_LEVEL),
            dynamic=hdr.dynamic(self.path, told, side_data),
            grid=grid,
        )
        return info, by_dts


def _end(packet: av.Packet) -> Fraction:
    time = packet.pts if packet.pts is not None else packet.dts or 0
    return (time + (packet.duration or 0)) * fraction(packet.time_base)


def _increasing(values: list[int | None]) -> bool:
    known = [value for value in values if value is not None]
    return len(known) == len(values) and all(a < b for a, b in itertools.pairwise(known))
