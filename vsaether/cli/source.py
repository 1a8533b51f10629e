"""Reading a video file: frames of one video stream with their timestamps, and the packets of all other streams.

FFmpeg decodes, through PyAV: in one pass, so that work begins with the first frame and the packets of other streams
come in the file's order. BestSource would first decode the whole file to index it, cuts odd 4:2:0 sizes to even ones,
and does not tell timestamps.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from .clock import Clock
from .errors import CliError
from .formats import Layout, Tags, complete, fraction, planar

_PROBED = 16
_TIME_BASE = 1_000_000
_TS_DISCONT = 0x0200
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before it is upscaled. Colour tags, completed, and aspect are FFmpeg's numbers."""

    width: int
    height: int
    layout: Layout
    tags: Tags
    sample_aspect_ratio: Fraction
    rate: Fraction
    time_base: Fraction
    frames: int
    """An estimate; 0 if even that cannot be made."""
    interlaced: bool
    field_order: int
    display_matrix: bytes | None
    mastering: bytes | None
    light_level: bytes | None


class VideoSource:
    """An opened video file. ``info`` describes its video; iterate over it once.

    Raises CliError if the file cannot be opened, or holds no video which can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.undecodable = 0
        """Packets which could not be decoded so far."""
        self.missing = 0
        """Frames of which the file tells, but whose place is behind its end: it is cut off. Known when all are read."""
        self.container = _open(path)
        try:
            self.stream = _video_stream(self.container, path)
            self.others = _others(self.container, self.stream)
            self.info, self._by_dts = self._probe()
        except BaseException:
            self.container.close()
            raise

    @property
    def start(self) -> Fraction:
        """Where the clock starts in seconds, if that is arbitrary, as in MPEG streams; else 0."""
        if not self.container.format.flags & _TS_DISCONT:
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
        for item in _decode(self.container, self.stream, self):
            if isinstance(item, av.VideoFrame):
                pts = item.dts if self._by_dts and item.dts is not None else item.pts
                if pts is None:
                    pts = 0 if last is None else last + step
                elif last is not None and pts <= last:
                    pts = last + 1
                item.pts = last = pts
                step = item.duration or usual
                number += 1
                yield item, f"{number:06d}"
            else:
                yield item
        # Others only estimate it. Where an edit list leaves frames out, the end is reached all the same.
        if "mp4" in self.container.format.name and last is not None:
            end = (self.stream.start_time or 0) + (self.stream.duration or 0)
            self.missing = max(0, self.stream.frames - number) if last + step < end else 0

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _probe(self) -> tuple[VideoInfo, bool]:
        """Decode the first frames on the side: much is only told there. Also whether pts are wrong, but dts right."""
        frames: list[av.VideoFrame] = []
        with _open(self.path) as container:
            stream = container.streams[self.stream.index]
            assert isinstance(stream, VideoStream)
            for item in _decode(container, stream, self):
                if isinstance(item, av.VideoFrame):
                    frames.append(item)
                if len(frames) == _PROBED:
                    break
        self.undecodable = 0
        if not frames:
            raise CliError(f"{self.path}: no frame of its video ({self.stream.codec_context.name}) can be decoded")
        first, layout = planar(frames[0])
        context, stream = self.stream.codec_context, self.stream
        # PyAV's access to side data crashes on the named colour profile of a PNG.
        side_data = {}
        if context.name not in ("png", "apng"):
            side_data = {kind: bytes(data) for kind, data in first.side_data.items()}
        rate = _rate(stream)
        info = VideoInfo(
            width=first.width,
            height=first.height,
            layout=layout,
            tags=complete(Tags.of(first), layout, first.width, first.height),
            sample_aspect_ratio=fraction(stream.sample_aspect_ratio or 0),
            rate=rate,
            time_base=fraction(stream.time_base),
            frames=stream.frames or round(_duration(self.container, stream) * rate),
            interlaced=any(frame.interlaced_frame for frame in frames),
            field_order=context.field_order,
            display_matrix=context.coded_side_data.get("display_matrix") or side_data.get(SideData.DISPLAYMATRIX),
            mastering=context.coded_side_data.get("mastering_display_metadata")
            or side_data.get(SideData.MASTERING_DISPLAY_METADATA),
            light_level=context.coded_side_data.get("content_light_level")
            or side_data.get(SideData.CONTENT_LIGHT_LEVEL),
        )
        return info, not _increasing([f.pts for f in frames]) and _increasing([f.dts for f in frames])


def _open(path: Path) -> InputContainer:
    try:
        return av.open(str(path.absolute()), "r")  # a colon in a relative name is no protocol
    except FFmpegError as error:
        raise CliError(f"{path} cannot be read as a video or an image: {error.strerror}") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise CliError(f"{path} holds no video")
    if stream.codec_context is None:
        raise CliError(f"{path}: there is no decoder for its video")
    stream.thread_type = "AUTO"
    return stream


def _others(container: InputContainer, video: VideoStream) -> list[Stream]:
    """The streams besides the video, without that which MP4 keeps its chapters in: the chapters are read already."""
    kept = [stream for stream in container.streams if stream is not video]
    if not container.chapters():
        return kept
    return [stream for stream in kept if (stream.type, stream.name) != ("data", "bin_data")]


def _decode(container: InputContainer, stream: VideoStream, owner: VideoSource) -> Iterator[av.VideoFrame | av.Packet]:
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in ALPHA_DECODERS:
        # FFmpeg's own decoders of VP8 and VP9 leave the alpha channel out.
        extradata, decoder = decoder.extradata, av.CodecContext.create(ALPHA_DECODERS[decoder.name], "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata = extradata
    clock = Clock(1 / _rate(stream))
    for packet in container.demux():
        clock.adjust(packet)
        if packet.stream is not stream:
            if packet.size or packet.dts is not None:
                yield packet
            continue
        try:
            yield from decoder.decode(packet if packet.size else None)
        except InvalidDataError:
            owner.undecodable += 1


def _rate(stream: VideoStream) -> Fraction:
    return fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction:
    if stream.duration:
        return stream.duration * fraction(stream.time_base)
    return Fraction(container.duration or 0, _TIME_BASE)


def _increasing(values: list[int | None]) -> bool:
    known = [value for value in values if value is not None]
    return len(known) == len(values) and all(a < b for a, b in itertools.pairwise(known))
