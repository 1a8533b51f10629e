"""Writing a video file: the upscaled video encoded, and every other stream, chapter, attachment and tag copied."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.stream import VideoStream

from vsaether.errors import MediaError

from .encoders import MUXERS, Encoder
from .files import PendingFile
from .formats import Layout, Tags, fraction
from .interleave import Interleaver
from .source import VideoInfo, VideoSource
from .streams import Plan, Track, ffmpeg_errors, leave_out, plan, without_timecode

# These streams tell the aspect ratio themselves. PyAV cannot set what Matroska would tell it by.
_TELLING_ASPECT = ("h264", "hevc", "mpeg4")
# Written by every muxer itself, or true of the old file only.
_OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "alpha_mode")
_OWN_PREFIXES = ("_statistics", "bps", "number_of_", "duration-")
_ITUNES_MUSIC = ("title", "artist", "album_artist", "album", "composer", "date", "genre", "grouping", "lyrics")
_ITUNES_VIDEO = ("show", "episode_id", "episode_sort", "season_number", "network", "synopsis", "hd_video", "media_type")
_ITUNES_OTHER = ("comment", "copyright", "description", "keywords", "compilation", "track", "disc", "creation_time")
_ITUNES_TAGS = frozenset((*_ITUNES_MUSIC, *_ITUNES_VIDEO, *_ITUNES_OTHER, "gapless_playback", "language"))
_MOST_DELAY = 3600  # seconds between decoding and presentation; no encoder holds a frame back for longer


class VideoWriter:
    """Writes a file, still under its temporary name, as the container of its suffix.

    The header is written at once: whatever container or encoder refuse is a MediaError before the first frame.
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
        self.size = info.width * scale, info.height * scale
        """Of all frames, whatever comes."""
        self._layout = Layout.of(encoder.pix_fmt)
        self._tags = info.tags.converted(info.layout, self._layout)
        self._others = Interleaver()
        # Matroska would round them again.
        self._grid = info.grid if MUXERS[suffix] not in ("matroska", "webm") else None
        self._written = 0
        self._times: list[int] = []
        self._tick = Fraction(0)
        self._dts_shift = 0
        self._time = Fraction(0)
        self._start = source.start if source and MUXERS[suffix] != "mpegts" else Fraction(0)
        others = Plan()
        if source:
            others = plan(source, suffix, drop_unsupported)
            self.notices += others.notices
            for what, remedy in _unsupported(info, source, suffix, encoder.codec):
                self.notices.append(leave_out(suffix, what, remedy, drop_unsupported))
        options = {}
        if (
            MUXERS[suffix] in ("mp4", "mov")
            and source
            and not _ITUNES_TAGS.issuperset(_tags(source.container.metadata))
        ):
            options["movflags"] = "use_metadata_tags"
        self._out = av.open(str(pending.path.absolute()), "w", format=MUXERS[suffix], container_options=options)
        self._tracks: dict[int, Track] = {}
        with ffmpeg_errors() as log:
            try:
                self._add_streams(info, source, others)
                self._out.start_encoding()
            except (FFmpegError, ValueError) as error:
                self.abandon()
                reason = log[0][2].strip() if log else getattr(error, "strerror", None) or error
                raise MediaError(f"{encoder.codec} in {suffix} cannot be set up: {reason}") from error

    def abandon(self) -> None:
        """Close the file as it is, if it is still open; what is in the encoder is lost."""
        with suppress(FFmpegError):
            self._out.close()

    def target(self, layout: Layout, tags: Tags, suffix: str) -> tuple[Layout, Tags]:
        """The layout and tags of what is encoded: a file has one colour and one size, whatever a frame has."""
        return self._layout, self._tags

    def copy(self, packet: av.Packet) -> None:
        """Take over a packet of another stream. It waits until the video has got as far."""
        track = self._tracks.get(packet.stream_index)
        if track is None:
            return
        time_base = fraction(packet.time_base)
        shift = round(self._start / time_base)
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
        if self._grid:
            self._grid.place(frame)
        if self._start and frame.pts is not None:
            frame.pts -= round(self._start / fraction(frame.time_base))
        self.frames += 1
        if frame.pts is not None:
            self._times, self._tick = [*self._times[:1], frame.pts], fraction(frame.time_base)
        with self._writing():
            self._mux(self._video.encode(frame))

    def close(self) -> None:
        """Encode what is still in the encoder, and end the file. Raises MediaError if frames got lost."""
        with self._writing():
            self._mux(self._video.encode(None))
            for index, track in self._tracks.items():
                for packet in track.flush():
                    self._others.put(packet)
                if track.lost:
                    self.notices.append(f"{track.lost} damaged packets of stream {index} could not be converted")
            self._out.mux(list(self._others.release(None)))
            self._out.close()
        if self._written != self.frames:
            raise MediaError(f"{self._encoder.codec} wrote {self._written} packets for {self.frames} frames")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as error:
            raise MediaError(f"cannot write {self._target}: {error.strerror}") from error

    def _add_streams(self, info: VideoInfo, source: VideoSource | None, others: Plan) -> None:
        if source is None:
            self._video = self._add_video(info, None, None)
            return
        for stream in source.container.streams:
            if stream is source.stream:
                self._video = self._add_video(info, source.stream, others.timecode)
            elif (way := others.ways.get(stream.index)) and (track := way(self._out)):
                self._tracks[stream.index] = track
        self._out.metadata.update(_tags(without_timecode(source.container.metadata)))
        chapters = source.container.chapters()
        if chapters:
            for chapter in chapters:
                shift = round(self._start / fraction(chapter["time_base"]))
                chapter["start"] -= shift
                chapter["end"] -= shift
            self._out.set_chapters(chapters)

    def _add_video(self, info: VideoInfo, template: VideoStream | None, timecode: str | None) -> VideoStream:
        encoder = self._encoder
        time_base = self._grid.time_base if self._grid else info.time_base
        stream = self._out.add_stream(encoder.codec, rate=info.rate, options=encoder.options, time_base=time_base)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        stream.time_base = time_base
        context.width, context.height = self.size
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
            stream.metadata.update(_tags(without_timecode(template.metadata)))
            stream.disposition = template.disposition
            stream.metadata.update({"timecode": timecode} if timecode else {})
        if self._layout.alpha and encoder.codec.startswith("libvpx"):
            stream.metadata["alpha_mode"] = "1"
        return stream

    def _mend(self, packet: av.Packet) -> None:
        """Give times of decoding back their sense: x265 never sets its delay where a video is shorter than that.

        All of them are off by the same, then. As late as the whole video is long is late enough.
        """
        if packet.dts is None or packet.pts is None:
            return
        if self._written == 1 and not 0 <= (packet.pts - packet.dts) * fraction(packet.time_base) <= _MOST_DELAY:
            length = round((self._times[-1] - self._times[0]) * self._tick / fraction(packet.time_base))
            self._dts_shift = packet.pts - packet.dts - length
        packet.dts += self._dts_shift

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._written += 1
            self._mend(packet)
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
