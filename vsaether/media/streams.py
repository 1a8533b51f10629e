"""What becomes of the streams besides the video: copied, converted, attached, or left out."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Protocol

import av
import av.logging
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.error import FFmpegError
from av.format import Flags
from av.stream import AttachmentStream, Disposition, Stream

from vsaether.errors import MediaError

from .audio import AUDIO_CODECS, AudioConversion
from .decoding_times import DecodingTimes
from .encoders import MUXERS
from .source import VideoSource
from .subtitles import TEXT_CODECS, TextConversion

# MPEG-TS takes any other codec, too, but as private data which no player reads.
_TS_AUDIO = ("aac", "aac_latm", "ac3", "eac3", "mp1", "mp2", "mp3", "dts", "truehd", "opus", "s302m")
_TS_VIDEO = ("mpeg1video", "mpeg2video", "h264", "hevc", "vvc")
_TS_OTHER = ("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "scte_35", "timed_id3", "klv")
_MP4 = ("mp4", "mov")
_TIMECODE = "timecode"
_TS_CODECS = frozenset(_TS_AUDIO + _TS_VIDEO + _TS_OTHER)


class Track(Protocol):
    """A stream of the output, which is made of packets of one of the input."""

    lost: int
    """Packets of the input of which nothing could be made."""

    def take(self, packet: av.Packet) -> list[av.Packet]:
        """The packets of the output which are complete with one more of the input."""
        ...

    def flush(self) -> list[av.Packet]:
        """The packets of the output which come after the last of the input."""
        ...


Way = Callable[[OutputContainer], Track | None]
"""Adds a stream to an output; the result is None if its contents went into the header."""


class Copy:
    """A stream whose packets are taken over as they are."""

    def __init__(self, stream: Stream, out: OutputContainer) -> None:
        # PyAV's own way asks the muxer for its list of codecs first, which is shorter than what it takes.
        with av.open(io.BytesIO(), "w", format="null") as scratch:
            plain = stream
            if stream.codec_context is not None:
                plain = scratch.add_stream_from_template(stream, opaque=True)  # without the old container's codec tag
            self._stream = out.add_data_stream()
            BitStreamFilterContext("null", plain, self._stream)
        self._stream.time_base = stream.time_base
        self._stream.metadata.update(stream.metadata)
        self._stream.disposition = Disposition(stream.disposition)
        self.lost = 0
        self._times = DecodingTimes()
        continuous = stream.type in ("video", "audio")
        self._step = int(continuous and not out.format.flags & Flags.ts_nonstrict.value)
        self._last: int | None = None

    def take(self, packet: av.Packet) -> list[av.Packet]:
        """See Track."""
        return [self._moved(each) for each in self._times.put(packet)]

    def flush(self) -> list[av.Packet]:
        """See Track."""
        return [self._moved(each) for each in self._times.flush()]

    def _moved(self, packet: av.Packet) -> av.Packet:
        """The packet in the new stream. One that is out of order is put behind the last, or the muxer would refuse."""
        packet.stream = self._stream
        packet.rescale_ts(self._stream.time_base)
        if packet.dts is not None:
            if self._last is not None:
                packet.dts = max(packet.dts, self._last + self._step)
            if packet.pts is not None:
                packet.pts = max(packet.pts, packet.dts)
            self._last = packet.dts
        return packet


@dataclass(frozen=True)
class StreamPlan:
    """What is done with each stream of the input besides its video, by its number, and what that loses."""

    ways: dict[int, Way] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    timecode: str | None = None
    """That at which the video starts, to be a tag of it. Muxers make the track it needs from that."""


def plan(source: VideoSource, suffix: str, drop_unsupported: bool, audio_codec: str | None = None) -> StreamPlan:
    """What a file with a suffix can be given of the streams of a video besides the video itself.

    What nobody plays or sees, as data of cameras, is left out where it cannot be carried. Raises MediaError where that
    happens to any other stream, unless unsupported ones may be dropped. Sound which cannot be carried as it is becomes
    ``audio_codec`` (FFmpeg's name of an encoder), by default the first of the usual ones that can be.
    """
    sounds = AUDIO_CODECS if audio_codec is None else (_checked(audio_codec),)
    muxer = MUXERS[suffix]
    tagged = (source.stream, *filter(_is_timecode, source.others), source.container)
    start = next(filter(None, (_timecode(each.metadata) for each in tagged)), None)
    kept = start is not None and muxer != "mpegts"
    if start and muxer in _MP4:
        kept = _returns_data(partial(_add_timecode, source, start), muxer)
    made = StreamPlan(timecode=start if kept else None)
    idle = [f"the timecode {start}"] if start and not kept else []
    for stream in source.others:
        way, note = _way(stream, source, suffix, sounds)
        if way is not None:
            made.ways[stream.index] = way
            made.notices.extend([note] if note else [])
        elif _is_timecode(stream):
            continue  # the tag tells it
        elif stream.type in ("video", "audio", "subtitle") and not _is_cover(stream):
            elsewhere = suffix != ".mkv" and _way(stream, source, ".mkv", sounds)[0]
            remedy = "write .mkv instead" if elsewhere else None
            made.notices.append(leave_out(suffix, _named(stream), remedy, drop_unsupported))
        else:
            idle.append(_named(stream))
    if idle:
        made.notices.append(f"{suffix} cannot carry {', '.join(idle)}: left out")
    return made


def _checked(audio_codec: str) -> str:
    try:
        codec = av.Codec(audio_codec, "w")
    except ValueError as error:
        usual = f"{', '.join(AUDIO_CODECS)}, flac, ac3"
        raise MediaError(f"there is no encoder {audio_codec!r} of sound; usual ones: {usual}") from error
    if codec.type != "audio":
        raise MediaError(f"{audio_codec} is not an encoder of sound")
    return audio_codec


def leave_out(suffix: str, what: str, remedy: str | None, drop: bool) -> str:
    """The note that something is left out; or a MediaError which says what to do, unless it may be dropped."""
    if not drop:
        remedy = f"{remedy}, or leave it out" if remedy else "leave it out"
        raise MediaError(f"{suffix} cannot carry {what}; {remedy} with --drop-unsupported")
    return f"{suffix} cannot carry {what}: left out"


def without_timecode(metadata: Mapping[str, str]) -> dict[str, str]:
    """The other tags; the case of a tag's name means nothing."""
    return {key: value for key, value in metadata.items() if key.lower() != _TIMECODE}


def _timecode(metadata: Mapping[str, str]) -> str | None:
    return next((value for key, value in metadata.items() if key.lower() == _TIMECODE), None)


def _add_timecode(source: VideoSource, start: str, out: OutputContainer) -> None:
    """A stand-in for the video: whether a timecode is one depends on the rate."""
    stream = out.add_mux_stream("mpeg4", rate=source.info.rate, width=16, height=16)
    stream.metadata[_TIMECODE] = start


def _way(stream: Stream, source: VideoSource, suffix: str, sounds: Iterable[str]) -> tuple[Way | None, str | None]:
    """The first way to give a stream to a container, tried out in memory, and what is to be said of it."""
    muxer = MUXERS[suffix]
    if _is_timecode(stream):
        return None, None
    if _is_cover(stream) and muxer == "matroska":
        picture = source.covers.get(stream.index)
        return (partial(_attach, stream, picture) if picture else None), None
    copy, codec = partial(Copy, stream), _codec(stream)
    # Of what has no name not even FFmpeg knows what it is.
    if codec and (muxer != "mpegts" or codec in _TS_CODECS):
        works = _returns_data if stream.type == "data" and muxer in _MP4 else _works
        if works(copy, muxer):
            return copy, None
    for name, way in _conversions(stream, sounds):
        if (muxer != "mpegts" or av.Codec(name, "w").canonical_name in _TS_CODECS) and _works(way, muxer):
            other = "; --audio-codec chooses another codec" if stream.type == "audio" else ""
            return way, f"{suffix} cannot carry {_named(stream)} as it is: converted to {name}{other}"
    return None, None


def _conversions(stream: Stream, sounds: Iterable[str]) -> Iterator[tuple[str, Way]]:
    """The codecs which a stream can be converted to, if any."""
    if stream.codec_context is None:
        return
    if stream.type == "audio":
        yield from ((codec, partial(AudioConversion, stream, codec)) for codec in sounds)
    elif stream.codec_context.codec.text_sub:
        yield from ((codec, partial(TextConversion, stream, codec)) for codec in TEXT_CODECS)


def _works(way: Way, muxer: str) -> bool:
    try:
        with ffmpeg_errors(), av.open(io.BytesIO(), "w", format=muxer) as trial:
            way(trial)
            trial.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def _returns_data(way: Way, muxer: str) -> bool:
    """Whether MP4, with a stream added so, still has data when it is read again.

    FFmpeg ignores a timecode which it cannot write, and of most kinds of data it writes a file which cannot be read.
    """
    file = io.BytesIO()
    packet = av.Packet(bytes(16))
    packet.pts, packet.dts, packet.duration, packet.time_base = 0, 0, 1, Fraction(1, 25)
    try:
        with ffmpeg_errors(), av.open(file, "w", format=muxer) as trial:
            track = way(trial)
            trial.start_encoding()
            packet.stream = trial.streams[0]
            trial.mux(track.take(packet) if track else packet)
        file.seek(0)
        with ffmpeg_errors(), av.open(file) as back:
            return bool(back.streams.data)
    except (ValueError, FFmpegError):
        return False


def _attach(stream: Stream, picture: bytes, out: OutputContainer) -> None:
    """Matroska keeps a cover as an attachment, whose name and media type say what it is."""
    kind = {"mjpeg": "jpeg"}.get(str(_codec(stream)), _codec(stream))
    name = stream.metadata.get("filename") or f"cover.{'jpg' if kind == 'jpeg' else kind}"
    attached = out.add_attachment(name, stream.metadata.get("mimetype") or f"image/{kind}", picture)
    attached.metadata.update({"title": stream.metadata["title"]} if "title" in stream.metadata else {})


def _is_timecode(stream: Stream) -> bool:
    return stream.type == "data" and _timecode(stream.metadata) is not None


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _named(stream: Stream) -> str:
    """A stream's number, and what it is in two or three words."""
    words = (stream.type, _codec(stream) or stream.metadata.get("handler_name"), stream.language)
    return f"stream {stream.index} ({' '.join(word for word in words if word and word != 'und')})"


def _codec(stream: Stream) -> str | None:
    """The codec's name, whichever decoder there is for it; an attachment's own name."""
    if stream.codec_context is not None:
        return stream.codec_context.codec.canonical_name
    return stream.name or ("attachment" if isinstance(stream, AttachmentStream) else None)


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
