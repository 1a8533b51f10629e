"""Text subtitles in the codec of another container: FFmpeg's decoder, and its encoder."""

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.subtitles.codeccontext import SubtitleCodecContext

TEXT_CODECS = ("subrip", "mov_text", "webvtt")
"""The codecs of text for which there are encoders, the most widely read first."""


class TextConversion:
    """A stream of text subtitles in another codec, with what of the markup both know."""

    def __init__(self, stream: Stream, codec: str, out: OutputContainer) -> None:
        decoder = stream.codec_context
        assert isinstance(decoder, SubtitleCodecContext)
        decoder.open(strict=False)
        self.lost = 0
        self._decoder = decoder
        self._stream = out.add_stream(codec)
        encoder = self._stream.codec_context
        assert isinstance(encoder, SubtitleCodecContext)
        encoder.subtitle_header = decoder.subtitle_header
        self._encoder = encoder
        self._stream.metadata.update(stream.metadata)
        self._stream.disposition = Disposition(stream.disposition)

    def take(self, packet: av.Packet) -> list[av.Packet]:
        """The text of a packet; none if it only says that nothing is shown."""
        if not packet.size:
            return []
        try:
            shown = self._decoder.decode2(packet)
            if not shown or not len(shown):
                return []
            shown.start_display_time = 0
            text = self._encoder.encode_subtitle(shown)
        except FFmpegError:
            self.lost += 1
            return []
        text.stream = self._stream
        text.time_base = packet.time_base
        text.pts = packet.pts
        text.dts = packet.pts
        text.duration = packet.duration
        return [text]

    def flush(self) -> list[av.Packet]:
        """Nothing waits."""
        return []
