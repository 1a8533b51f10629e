"""Sound in the codec of another container: FFmpeg's decoder, and its encoder."""

from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream

from .formats import fraction

AUDIO_CODECS = ("aac", "libopus")
"""The codecs of sound that is converted, the most widely played first."""
_BIT_RATE = 128_000  # of a channel: much more than is heard
_USUAL_RATE = 48_000
_GAP = Fraction(1, 10)  # seconds


class AudioConversion:
    """A stream of sound in another codec, at its own sample rate where the codec has that."""

    def __init__(self, stream: Stream, codec: str, out: OutputContainer) -> None:
        decoder = stream.codec_context
        assert isinstance(decoder, AudioCodecContext)
        rates = av.Codec(codec, "w").audio_rates
        rate = decoder.sample_rate if not rates or decoder.sample_rate in rates else _USUAL_RATE
        self.lost = 0
        self._decoder = decoder
        self._stream = out.add_stream(codec, rate=rate)
        encoder = self._stream.codec_context
        assert isinstance(encoder, AudioCodecContext)
        count = decoder.layout.nb_channels
        # "2 channels" tells no order, which encoders want to know: the usual one.
        encoder.layout = f"{count}c" if decoder.layout.name == f"{count} channels" else decoder.layout
        encoder.bit_rate = _BIT_RATE * count
        self._encoder = encoder
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None
        self._fifo = av.AudioFifo()
        self._read = self._written = Fraction(0)  # samples of the output
        self._stream.metadata.update(stream.metadata)
        self._stream.disposition = Disposition(stream.disposition)

    def take(self, packet: av.Packet) -> list[av.Packet]:
        """The encoded sound which is complete with a packet."""
        return self._decoded(packet) if packet.size else []

    def flush(self) -> list[av.Packet]:
        """The rest of the sound."""
        return [*self._decoded(None), *self._encoded(None), *self._sent(self._encoder.encode(None))]

    def _decoded(self, packet: av.Packet | None) -> list[av.Packet]:
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError:
            self.lost += 1
            return []
        return [each for frame in frames for each in self._encoded(frame)]

    def _encoded(self, frame: av.AudioFrame | None) -> list[av.Packet]:
        """Packets of converted sound, in pieces of the size that the encoder takes; None ends it."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate) if frame else None
        parts: list[av.AudioFrame] = []
        if self._resampler and kind != self._kind:  # some streams change midway
            parts += self._resampler.resample(None)
            self._resampler = None
        if frame is not None:
            if self._resampler is None:
                self._kind = kind
                encoder = self._encoder
                self._resampler = av.AudioResampler(encoder.format, encoder.layout, encoder.sample_rate)
            self._follow(frame)
            parts += self._resampler.resample(frame)
        for part in parts:
            part.pts, part.time_base = None, Fraction(1, self._encoder.sample_rate)
            self._fifo.write(part)
        made = []
        while (piece := self._fifo.read(self._encoder.frame_size, partial=frame is None)) is not None:
            piece.pts, piece.time_base = round(self._written), Fraction(1, self._encoder.sample_rate)
            self._written += piece.samples
            made += self._sent(self._encoder.encode(piece))
        return made

    def _follow(self, frame: av.AudioFrame) -> None:
        """Let the clock, which counts samples, go on where sound is missing: files tell times less exactly."""
        rate = self._encoder.sample_rate
        if frame.pts is not None and frame.time_base is not None:
            gap = frame.pts * fraction(frame.time_base) * rate - self._read
            if self._read == self._written == 0 or gap > _GAP * rate:
                self._read += gap
                self._written += gap
        self._read += Fraction(frame.samples * rate, frame.sample_rate)
        frame.pts = None

    def _sent(self, packets: list[av.Packet]) -> list[av.Packet]:
        for packet in packets:
            packet.stream = self._stream
        return packets
