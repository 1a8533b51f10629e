"""Writing a video file: the upscaled video encoded, and every other stream, chapter, attachment and tag copied."""

import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
import av.logging
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from .encoders import MUXERS, Encoder
from .errors import CliError
from .files import PendingFile
from .formats import Layout, Tags, fraction
from .source import VideoInfo, VideoSource

# MPEG-TS takes any other codec, too, but as private data which no player reads.
_TS_AUDIO = ("aac", "aac_latm", "ac3", "eac3", "mp1", "mp2", "mp3", "dts", "truehd", "opus", "s302m")
_TS_VIDEO = ("mpeg1video", "mpeg2video", "h264", "hevc", "vvc")
_TS_OTHER = ("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "scte_35", "timed_id3", "klv")
_TS_CODECS = frozenset(_TS_AUDIO + _TS_VIDEO + _TS_OTHER)
# These streams tell the aspect ratio themselves. PyAV cannot set what Matroska would tell it by.
_TELLING_ASPECT = ("h264", "hevc", "mpeg4")
# Written by every muxer itself, or true of the old file only.
_OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "alpha_mode")
_OWN_PREFIXES = ("_statistics", "bps", "number_of_", "duration-")
_ITUNES_MUSIC = ("title", "artist", "album_artist", "album", "composer", "date", "genre", "grouping", "lyrics")
_ITUNES_VIDEO = ("show", "episode_id", "episode_sort", "season_number", "network", "synopsis", "hd_video", "media_type")
_ITUNES_OTHER = ("comment", "copyright", "description", "keywords", "compilation", "track", "disc", "creation_time")
_ITUNES_TAGS = frozenset((*_ITUNES_MUSIC, *_ITUNES_VIDEO, *_ITUNES_OTHER, "gapless_playback", "language"))


class VideoWriter:
    """Writes a file, still under its temporary name, as the container of its suffix.

    The header is written at once: whatever container or encoder refuse is a CliError before the first frame.
    """

    def __init__(
        self,
        pending: PendingFile,
        encoder: Encoder,
        info: VideoInfo,
        scale: int,
        source: VideoSource | None,
        drop_unsupported: bool,
    ) -> None:
        self.notices = list(encoder.notices)
        self._target = pending.target
        suffix = pending.target.suffix.lower()
        self.frames = 0
        self._encoder = encoder
        self._size = info.width * scale, info.height * scale
        self._layout = Layout.of(encoder.pix_fmt)
        self._tags = info.tags.converted(info.layout, self._layout)
        self._held: deque[tuple[Fraction, av.Packet]] = deque()
        self._written = 0
        self._start = source.start if source and MUXERS[suffix] != "mpegts" else Fraction(0)
        kept = source.others if source else []
        if source:
            kept = _supported(kept, suffix, drop_unsupported, self.notices)
            for what, remedy in _unsupported(info, source, suffix, encoder.codec):
                _leave_out(suffix, what, remedy, drop_unsupported, self.notices)
        options = {}
        if (
            MUXERS[suffix] in ("mp4", "mov")
            and source
            and not _ITUNES_TAGS.issuperset(_tags(source.container.metadata))
        ):
            options["movflags"] = "use_metadata_tags"
        self._out = av.open(str(pending.path.absolute()), "w", format=MUXERS[suffix], container_options=options)
        self._copies: dict[int, Stream] = {}
        with ffmpeg_errors() as log:
            try:
                self._add_streams(info, source, kept)
                self._out.start_encoding()
            except (FFmpegError, ValueError) as error:
                self.abandon()
                reason = log[0][2].strip() if log else getattr(error, "strerror", None) or error
                raise CliError(f"{encoder.codec} in {suffix} cannot be set up: {reason}") from error

    def abandon(self) -> None:
        """Close the file as it is, if it is still open; what is in the encoder is lost."""
        with suppress(FFmpegError):
            self._out.close()

    def target(self, layout: Layout, tags: Tags, suffix: str) -> tuple[Layout, Tags]:
        """The layout and tags of what is encoded: a file has one colour, whatever a frame says of its own."""
        return self._layout, self._tags

    def copy(self, packet: av.Packet) -> None:
        """Take over a packet of another stream. It waits until the video has got as far."""
        stream = self._copies.get(packet.stream_index)
        if stream is None:
            return
        if packet.dts is None:
            packet.dts = packet.pts
        time_base = fraction(packet.time_base)
        if self._start:
            shift = round(self._start / time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
        time = (packet.dts or 0) * time_base
        packet.stream = stream
        self._held.append((time, packet))

    def write(self, frame: av.VideoFrame, name: str) -> None:
        """Encode a frame; its pts and time base are those of the result."""
        if (frame.width, frame.height) != self._size:
            size = "x".join(map(str, self._size))
            raise CliError(
                f"frame {name} would be {frame.width}x{frame.height}, but the video began with {size}; a video has one "
                "size: split the input there"
            )
        if frame.interlaced_frame and not self._encoder.interlaced:
            raise CliError(
                f"frame {name} is interlaced, but the video began progressive and is encoded so; deinterlace it first, "
                "or split the input there"
            )
        if self._start and frame.pts is not None:
            frame.pts -= round(self._start / fraction(frame.time_base))
        self.frames += 1
        with self._writing():
            self._mux(self._video.encode(frame))

    def close(self) -> None:
        """Encode what is still in the encoder, and end the file. Raises CliError if frames got lost."""
        with self._writing():
            self._mux(self._video.encode(None))
            self._release(None)
            self._out.close()
        if self._written != self.frames:
            raise CliError(f"{self._encoder.codec} wrote {self._written} packets for {self.frames} frames")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as error:
            raise CliError(f"cannot write {self._target}: {error.strerror}") from error

    def _add_streams(self, info: VideoInfo, source: VideoSource | None, kept: list[Stream]) -> None:
        if source is None:
            self._video = self._add_video(info, None)
            return
        for stream in source.container.streams:
            if stream is source.stream:
                self._video = self._add_video(info, source.stream)
            elif stream in kept:
                self._copies[stream.index] = _add_copy(self._out, stream)
        self._out.metadata.update(_tags(source.container.metadata))
        chapters = source.container.chapters()
        if chapters:
            for chapter in chapters:
                shift = round(self._start / fraction(chapter["time_base"]))
                chapter["start"] -= shift
                chapter["end"] -= shift
            self._out.set_chapters(chapters)

    def _add_video(self, info: VideoInfo, template: VideoStream | None) -> VideoStream:
        encoder = self._encoder
        stream = self._out.add_stream(encoder.codec, rate=info.rate, options=encoder.options, time_base=info.time_base)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        stream.time_base = info.time_base
        context.width, context.height = self._size
        context.pix_fmt = encoder.pix_fmt
        self._tags.put_encoder(context)
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        context.flags |= Flags.frame_duration
        if encoder.interlaced:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
            context.field_order = info.field_order
        if info.display_matrix:
            stream.set_display_matrix(memoryview(info.display_matrix).cast("i").tolist())
        if template is not None:
            stream.metadata.update(_tags(template.metadata))
            stream.disposition = template.disposition
        if self._layout.alpha and encoder.codec.startswith("libvpx"):
            stream.metadata["alpha_mode"] = "1"
        return stream

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._written += 1
            dts = packet.dts if packet.dts is not None else packet.pts
            self._release(None if dts is None else dts * fraction(packet.time_base))
            self._out.mux(packet)

    def _release(self, until: Fraction | None) -> None:
        while self._held and (until is None or self._held[0][0] <= until):
            self._out.mux(self._held.popleft()[1])


@contextmanager
def ffmpeg_errors() -> Iterator[list[tuple[int, str, str]]]:
    """Collect what FFmpeg has to say of errors, instead of nothing."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        av.logging.set_level(before)


def _supported(streams: list[Stream], suffix: str, drop: bool, notices: list[str]) -> list[Stream]:
    kept = []
    for stream in streams:
        if _carries(suffix, stream):
            kept.append(stream)
            continue
        remedy = "write .mkv instead" if suffix != ".mkv" and _carries(".mkv", stream) else None
        _leave_out(suffix, f"stream {stream.index} ({describe(stream)})", remedy, drop, notices)
    return kept


def _unsupported(info: VideoInfo, source: VideoSource, suffix: str, codec: str) -> Iterator[tuple[str, str]]:
    """What else of the video a container cannot carry, and what to do instead."""
    muxer = MUXERS[suffix]
    aspect = info.sample_aspect_ratio
    if (
        muxer in ("matroska", "webm")
        and aspect not in (0, 1)
        and av.Codec(codec, "w").canonical_name not in _TELLING_ASPECT
    ):
        instead = "write .mp4 or .mov instead" if suffix == ".webm" else "use --codec libx264 or libx265 instead"
        yield f"the sample aspect ratio {aspect.numerator}:{aspect.denominator} of {codec}", instead
    if muxer == "mpegts" and info.display_matrix:
        yield "the rotation of the video", "write .mkv instead"
    if muxer == "mpegts" and source.container.chapters():
        yield "chapters", "write .mkv instead"


def _leave_out(suffix: str, what: str, remedy: str | None, drop: bool, notices: list[str]) -> None:
    if not drop:
        remedy = f"{remedy}, or leave it out" if remedy else "leave it out"
        raise CliError(f"{suffix} cannot carry {what}; {remedy} with --drop-unsupported")
    notices.append(f"{suffix} cannot carry {what}: left out")


def describe(stream: Stream) -> str:
    """A stream in two or three words."""
    return " ".join(part for part in (stream.type, _codec(stream), stream.language) if part and part != "und")


def _codec(stream: Stream) -> str | None:
    """The codec's name, whichever decoder there is for it."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else stream.name


def _carries(suffix: str, stream: Stream) -> bool:
    """Whether a container takes a stream: tried out, in memory."""
    muxer = MUXERS[suffix]
    if muxer == "mpegts" and _codec(stream) not in _TS_CODECS:
        return False
    try:
        with ffmpeg_errors():
            trial = av.open(io.BytesIO(), "w", format=muxer)
            _add_copy(trial, stream)
            trial.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def _add_copy(out: OutputContainer, stream: Stream) -> Stream:
    if stream.codec_context is None:
        return out.add_stream_from_template(stream)
    copy = out.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(stream.metadata)
    copy.disposition = Disposition(stream.disposition)
    return copy


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OWN_TAGS and not key.lower().startswith(_OWN_PREFIXES)
    }
