"""Encoding the upscaled video: frames in, packets out."""

import hashlib
from fractions import Fraction

import av
from av.codec.codec import Capabilities
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.stream import VideoStream

from vsaether.errors import MediaError
from vsaether.sizing import Sizing

from .encoders import Encoder
from .formats import Layout, fraction
from .info import VideoInfo

_SHAPE = Fraction(1, 50)  # a size that is rounded to whole pixels changes the shape by less
_MOST_DELAY = 3600  # seconds between decoding and presentation; no encoder holds a frame back for longer


class VideoEncoder:
    """A video stream of an output, in the size that is asked for, and the encoder that makes its packets.

    Nothing is written: the packets are given to whoever wants them. The stream's ``threads`` are chosen by the encoder
    unless given; some encoders make other bytes with another number. ``time_base`` is that of the frames.
    """

    def __init__(
        self,
        out: OutputContainer,
        encoder: Encoder,
        info: VideoInfo,
        sizing: Sizing,
        time_base: Fraction,
        threads: int | None = None,
    ) -> None:
        self.size = sizing.of(info.width, info.height)
        """Of all frames, whatever comes."""
        self.layout = Layout.of(encoder.pix_fmt)
        self.tags = info.tags.converted(info.layout, self.layout)
        self.frames = self.packets = 0
        self._codec = encoder.codec
        self._times: list[int] = []
        self._tick = Fraction(0)
        self._dts_shift = 0
        self.stream = self._add(out, encoder, info, time_base)
        if threads is not None:
            self.stream.codec_context.thread_count = threads

    @property
    def lends(self) -> bool:
        """Whether frames may be lent (see lent.py): not where the encoder's own threads give them back."""
        return not self.stream.codec_context.codec.capabilities & Capabilities.frame_threads

    @property
    def extradata(self) -> str:
        """The SHA-256 of the encoder's header, once it is open: in hexadecimal."""
        return hashlib.sha256(self.stream.codec_context.extradata or b"").hexdigest()

    def encode(self, frame: av.VideoFrame) -> list[av.Packet]:
        """The packets which are complete with a frame; its pts and time base are those of the result."""
        self.frames += 1
        if frame.pts is not None:
            self._times, self._tick = [*self._times[:1], frame.pts], fraction(frame.time_base)
        return self._taken(self.stream.encode(frame))

    def flush(self) -> list[av.Packet]:
        """The packets which are still in the encoder. Raises MediaError if frames got lost."""
        packets = self._taken(self.stream.encode(None))
        if self.packets != self.frames:
            raise MediaError(f"{self._codec} wrote {self.packets} packets for {self.frames} frames")
        return packets

    def _taken(self, packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            self.packets += 1
            self._mend(packet)
        return packets

    def _mend(self, packet: av.Packet) -> None:
        """Give times of decoding back their sense: x265 never sets its delay where a video is shorter than that.

        All of them are off by the same, then. As late as the whole video is long is late enough.
        """
        if packet.dts is None or packet.pts is None:
            return
        if self.packets == 1 and not 0 <= (packet.pts - packet.dts) * fraction(packet.time_base) <= _MOST_DELAY:
            length = round((self._times[-1] - self._times[0]) * self._tick / fraction(packet.time_base))
            self._dts_shift = packet.pts - packet.dts - length
        packet.dts += self._dts_shift

    def _add(self, out: OutputContainer, encoder: Encoder, info: VideoInfo, time_base: Fraction) -> VideoStream:
        stream = out.add_stream(encoder.codec, rate=info.rate, options=encoder.options, time_base=time_base)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        stream.time_base = time_base
        context.width, context.height = self.size
        context.pix_fmt = encoder.pix_fmt
        self.tags.put_encoder(context)
        if aspect := _aspect(info, *self.size):
            context.sample_aspect_ratio = aspect
        context.flags |= Flags.frame_duration
        if encoder.interlaced:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
            context.field_order = info.field_order
        return stream


def _aspect(info: VideoInfo, width: int, height: int) -> Fraction:
    """The sample aspect ratio with which a picture of that size has the shape of the source's; 0 if it has none."""
    stretched = Fraction(info.width * height, info.height * width)
    if abs(stretched - 1) < _SHAPE:
        return info.sample_aspect_ratio
    return ((info.sample_aspect_ratio or 1) * stretched).limit_denominator(1000)
