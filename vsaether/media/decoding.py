"""Decoding a file: its container, the frames of its video, the packets of its other streams, and what is damaged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vsaether.errors import MediaError

from .clock import Clock
from .formats import fraction

TIME_BASE = 1_000_000
"""Units a second of a container's own times."""

TS_DISCONT = 0x0200
"""FFmpeg's flag of formats whose clock starts anywhere and may step."""

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass
class Damage:
    """What of a video is damaged."""

    packets: int = 0
    """Those which could not be decoded."""
    frames: int = 0
    """Those of which the decoder says that they are damaged."""
    end: str | None = None
    """Why nothing behind some place could be read."""

    def notices(self) -> list[str]:
        """The same in words."""
        found = []
        if self.packets:
            found.append(f"{self.packets} damaged packets of the input could not be decoded")
        if self.frames:
            found.append(f"{self.frames} frames of the input are damaged; they were upscaled as they could be decoded")
        if self.end:
            found.append(f"the input could not be read to its end: {self.end}")
        return found


def open_file(path: Path) -> InputContainer:
    """The container of a file. Raises MediaError."""
    try:
        return av.open(str(path.absolute()), "r")  # a colon in a relative name is no protocol
    except FFmpegError as error:
        raise MediaError(f"{path} cannot be read as a video or an image: {error.strerror}") from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The video of a container, of the file ``path``. Raises MediaError where there is none that can be decoded."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise MediaError(f"{path} holds no video")
    if stream.codec_context is None:
        raise MediaError(f"{path}: there is no decoder for its video")
    stream.thread_type = "AUTO"
    return stream


def other_streams(container: InputContainer, video: VideoStream) -> list[Stream]:
    """The streams besides the video, without that which MP4 keeps its chapters in: the chapters are read already."""
    others = [stream for stream in container.streams if stream is not video]
    return [stream for stream in others if stream.type != "data" or stream.discard != Discard.all]


def make_decoder(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a video: the one which gives its alpha channel too, if it has one."""
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in ALPHA_DECODERS:
        # FFmpeg's own decoders of VP8 and VP9 leave the alpha channel out.
        extradata, decoder = decoder.extradata, av.CodecContext.create(ALPHA_DECODERS[decoder.name], "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata = extradata
    return decoder


def decode(
    container: InputContainer,
    stream: VideoStream,
    decoder: VideoCodecContext,
    damage: Damage,
    decoding: Callable[[], bool],
) -> Iterator[av.VideoFrame | av.Packet]:
    """Frames of one stream and packets of the others in the file's order; packets of all while not ``decoding``."""
    # Of other files FFmpeg may have worked times of decoding out, and wrong: Matroska tells none.
    clock = Clock(1 / frame_rate(stream)) if container.format.flags & TS_DISCONT else None
    for packet in _demux(container, damage):
        if clock:
            clock.adjust(packet)
        if packet.stream is not stream or not decoding():
            yield packet
            continue
        yield from _frames(decoder, packet, damage)
    yield from _frames(decoder, None, damage)


def _demux(container: InputContainer, damage: Damage) -> Iterator[av.Packet]:
    """The packets of a file, as far as it can be read."""
    try:
        for packet in container.demux():
            if packet.size or packet.dts is not None:  # the others only tell of the end
                yield packet
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        damage.end = error.strerror


def _frames(decoder: VideoCodecContext, packet: av.Packet | None, damage: Damage) -> list[av.VideoFrame]:
    if packet is not None and not packet.size:  # to a decoder it would be the end
        return []
    try:
        return decoder.decode(packet)
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        damage.packets += 1
        return []


def frame_rate(stream: VideoStream) -> Fraction:
    """Frames a second, as the file tells or FFmpeg guesses them; 25 if neither does."""
    return fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)


def duration(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds, as the file tells them; else 0."""
    if stream.duration:
        return stream.duration * fraction(stream.time_base)
    return Fraction(container.duration or 0, TIME_BASE)
