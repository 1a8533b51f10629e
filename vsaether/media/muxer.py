"""Writing a video file: the upscaled video encoded, and every other stream, chapter, attachment and tag copied."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError

from vsaether.errors import MediaError
from vsaether.sizing import Sizing

from .encode import VideoEncoder
from .encoders import MUXERS, Encoder
from .files import PendingFile
from .formats import Layout, Tags, fraction
from .info import VideoInfo
from .interleave import Interleaver
from .source import VideoSource
from .span import WHOLE, Span
from .streams import StreamPlan, Track, ffmpeg_errors, leave_out, plan, without_timecode
from .timing import Timing

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

    Its video is encoded of frames (``write``), or there already as packets (``put``). The header is written at once:
    whatever container or encoder refuse is a MediaError before the first frame. ``threads`` are the encoder's; sound
    that the container cannot carry becomes ``audio_codec``.
    """

    def __init__(
        self,
        pending: PendingFile,
        encoder: Encoder,
        info: VideoInfo,
        sizing: Sizing,
        source: VideoSource | None,
        drop_unsupported: bool,
        span: Span = WHOLE,
        threads: int | None = None,
        audio_codec: str | None = None,
    ) -> None:
        self.notices = list(encoder.notices)
        self._target = pending.target
        suffix = pending.target.suffix.lower()
        self._others = Interleaver(pending.path.parent)
        self._span = span
        self._time = Fraction(0)
        muxer = MUXERS[suffix]
        self.timing = Timing.of(info.grid, info.time_base, source.start if source else Fraction(0), muxer)
        """Where the frames given to ``write`` must have been placed."""
        others = StreamPlan()
        if source:
            others = plan(source, suffix, drop_unsupported, audio_codec)
            self.notices += others.notices
            if others.timecode and span.start is not None:
                self.notices.append(f"the timecode {others.timecode} is left out: it is that of the first frame")
                others = replace(others, timecode=None)
            for what, remedy in _unsupported(info, source, suffix, encoder.codec):
                self.notices.append(leave_out(suffix, what, remedy, drop_unsupported))
        options = {}
        if muxer in ("mp4", "mov") and source and not _ITUNES_TAGS.issuperset(_tags(source.container.metadata)):
            options["movflags"] = "use_metadata_tags"
        self._out = av.open(str(pending.path.absolute()), "w", format=muxer, container_options=options)
        self._tracks: dict[int, Track] = {}
        with ffmpeg_errors() as log:
            try:
                self.video = self._add_streams(info, sizing, encoder, source, others, threads)
                self._out.start_encoding()
            except (FFmpegError, ValueError) as error:
                self.abandon()
                reason = log[0][2].strip() if log else getattr(error, "strerror", None) or error
                raise MediaError(f"{encoder.codec} in {suffix} cannot be set up: {reason}") from error

    @property
    def frames(self) -> int:
        """How many were encoded."""
        return self.video.frames

    @property
    def copies(self) -> bool:
        """Whether there are other streams, whose packets it wants."""
        return bool(self._tracks)

    def takes(self, index: int) -> bool:
        """Whether it wants the packets of a stream of the input."""
        return index in self._tracks

    @property
    def size(self) -> tuple[int, int]:
        """Of all frames, whatever comes."""
        return self.video.size

    @property
    def lends(self) -> bool:
        """Whether frames may be lent (see lent.py)."""
        return self.video.lends

    def abandon(self) -> None:
        """Close the file as it is, if it is still open; what is in the encoder is lost."""
        with suppress(FFmpegError):
            self._out.close()

    def target(self, layout: Layout, tags: Tags, suffix: str) -> tuple[Layout, Tags]:
        """The layout and tags of what is encoded: a file has one colour and one size, whatever a frame has."""
        return self.video.layout, self.video.tags

    def copy(self, packet: av.Packet) -> None:
        """Take over a packet of another stream. It waits until the video has got as far."""
        track = self._tracks.get(packet.stream_index)
        if track is None:
            return
        time_base = fraction(packet.time_base)
        shift = round(self.timing.start / time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        if packet.pts is None and packet.dts is None:  # some data: it goes with what is read beside it
            packet.pts = packet.dts = round(self._time / time_base)
        self._time = (packet.pts if packet.pts is not None else packet.dts or 0) * time_base
        with self._writing():
            for each in track.take(packet):
                self._others.put(each)

    def write(self, frame: av.VideoFrame, name: str) -> None:
        """Encode a frame; its pts and time base are those of the result."""
        with self._writing():
            self._mux(self.video.encode(frame))

    def put(self, packet: av.Packet) -> None:
        """Take a packet of the video which is encoded already."""
        packet.stream = self.video.stream
        with self._writing():
            self._mux([packet])

    def close(self, flush: bool = True) -> None:
        """End the file; with ``flush``, with what is still in the encoder. Raises MediaError if frames got lost."""
        with self._writing():
            if flush:
                self._mux(self.video.flush())
            for index, track in self._tracks.items():
                for packet in track.flush():
                    self._others.put(packet)
                if track.lost:
                    self.notices.append(f"{track.lost} damaged packets of stream {index} could not be converted")
            self._out.mux(list(self._others.release(None)))
            self._out.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as error:
            raise MediaError(f"cannot write {self._target}: {error.strerror}") from error

    def _add_streams(
        self,
        info: VideoInfo,
        sizing: Sizing,
        encoder: Encoder,
        source: VideoSource | None,
        others: StreamPlan,
        threads: int | None,
    ) -> VideoEncoder:
        def add_video() -> VideoEncoder:
            return VideoEncoder(self._out, encoder, info, sizing, self.timing.time_base, threads)

        if source is None:
            return self._finished(add_video(), info, encoder)
        video = None
        for stream in source.container.streams:
            if stream is source.stream:
                video = self._finished(add_video(), info, encoder)
                video.stream.metadata.update(_tags(without_timecode(source.stream.metadata)))
                video.stream.disposition = source.stream.disposition
                video.stream.metadata.update({"timecode": others.timecode} if others.timecode else {})
            elif (way := others.ways.get(stream.index)) and (track := way(self._out)):
                self._tracks[stream.index] = track
        assert video is not None
        self._out.metadata.update(_tags(without_timecode(source.container.metadata)))
        if chapters := list(self._chapters(source)):
            self._out.set_chapters(chapters)
        return video

    def _chapters(self, source: VideoSource) -> Iterator[Any]:
        """Those of the source, in the span; where that begins is known to a frame's length."""
        begin, end = self._span.seconds(source.info.rate)
        for chapter in source.container.chapters():
            time_base = fraction(chapter["time_base"])
            first, last = (chapter[key] * time_base - self.timing.start - begin for key in ("start", "end"))
            if begin:
                first = max(first, Fraction(0))
            if end is not None:
                last = min(last, end - begin)
            if first < last or not (begin or end):
                yield {**chapter, "start": round(first / time_base), "end": round(last / time_base)}

    def _finished(self, video: VideoEncoder, info: VideoInfo, encoder: Encoder) -> VideoEncoder:
        """The stream with what only the container tells."""
        if info.display_matrix:
            video.stream.set_display_matrix(memoryview(info.display_matrix).cast("i").tolist())
        if video.layout.alpha and encoder.codec.startswith("libvpx"):
            video.stream.metadata["alpha_mode"] = "1"
        return video

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            dts = packet.dts if packet.dts is not None else packet.pts
            if dts is not None:
                self._out.mux(list(self._others.release(dts * fraction(packet.time_base))))
            self._out.mux(packet)


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


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OWN_TAGS and not key.lower().startswith(_OWN_PREFIXES)
    }
