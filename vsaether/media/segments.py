"""One segment of a film: encoded by an encoder of its own, verified, and written with a record of what it holds."""

import io
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import av
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from vsaether import memory
from vsaether.errors import MediaError
from vsaether.sizing import Sizing

from . import encoders
from .encode import VideoEncoder
from .encoders import MUXERS, Encoder
from .info import VideoInfo
from .manifest import JobFolder, Record
from .packets import PacketWriter
from .settings import Job
from .source import VideoSource
from .timing import Timing

_DECODERS = {"av1": "libdav1d"}
"""Where FFmpeg's own decoder, which has the codec's name, needs a graphics card."""
_MOST_THREADS = 64
_X265_THREADS = ((32, 6), (16, 5), (8, 3), (4, 2))  # frames at a time for at least as many cores, as x265 itself does


@dataclass(frozen=True)
class Recipe:
    """How the video of a film is encoded: all that a segment's encoder must have in common with the others'."""

    encoder: Encoder
    info: VideoInfo
    sizing: Sizing
    time_base: Fraction
    muxer: str
    threads: int

    @classmethod
    def of(cls, job: Job, source: VideoSource, sizing: Sizing, cores: int) -> Self:
        """That of a job, on a machine with so many cores. Raises MediaError where the encoder cannot do it."""
        suffix = job.output.suffix.lower()
        encoder = encoders.choose(job.encoding, suffix, source.info, sizing)
        threads = _threads(encoder.codec, cores)
        info, muxer = source.info, MUXERS[suffix]
        time_base = Timing.of(info.grid, info.time_base, source.start, muxer).time_base
        return cls(encoder, info, sizing, time_base, muxer, threads)

    def open(self) -> VideoEncoder:
        """An encoder set up as it would be by the container that the packets are for."""
        scratch = av.open(io.BytesIO(), "w", format=self.muxer)
        return VideoEncoder(scratch, self.encoder, self.info, self.sizing, self.time_base, self.threads)


def open_source(job: Job) -> VideoSource:
    """The video of a job. Every process that decodes, decodes this."""
    folder = job.output.parent if job.output.parent.is_dir() else None
    return VideoSource(job.source, job.tags, job.deinterlace, folder, job.interlaced)


class SegmentWriter:
    """Encodes frames into a segment of a job, and verifies it.

    The packets are decoded again as they come: their frames must be as many as were given, at the same times, and
    undamaged. Raises MediaError where that is not so, or the disk is full.
    """

    def __init__(self, folder: JobFolder, number: int, recipe: Recipe) -> None:
        self._folder = folder
        self._number = number
        self._recipe = recipe
        self._file = PacketWriter(folder.packets(number))
        self._video = recipe.open()
        self._decoder = _decoder(recipe.encoder.codec)
        self._decoder.width, self._decoder.height = self._video.size  # FFV1 has them in the container alone
        self._extradata = ""
        self._given: list[int] = []
        self._decoded: list[int | None] = []
        self._shown: list[int] = []
        self._began = time.monotonic()
        folder.log.worked = True

    def abandon(self) -> None:
        """Remove what has been written, if it is not complete."""
        self._file.abandon()

    def write(self, frame: av.VideoFrame) -> None:
        """Encode a frame, which has been placed."""
        assert frame.pts is not None
        self._given.append(frame.pts)
        with self._encoding():
            self._take(self._video.encode(frame))

    def finish(self, first: int, checksum: int) -> Record:
        """End the segment: its record, which is written, too. ``first`` is the number of its first frame in the film,
        ``checksum`` that of its frames as they were decoded.
        """
        try:
            with self._encoding():
                self._take(self._video.flush())
            self._verify(None)
            if self._decoded != self._given:
                raise MediaError(
                    f"segment {self._number} is not what was encoded: {self._recipe.encoder.codec} made "
                    f"{len(self._decoded)} frames of {len(self._given)}, or moved them in time"
                )
            self._file.commit()
        finally:
            self.abandon()
        record = Record(
            number=self._number,
            first=first,
            frames=len(self._given),
            checksum=checksum,
            delay=_delay(self._shown),
            extradata=self._extradata,
            size=self._file.size,
            sha256=self._file.sha256.hexdigest(),
        )
        self._folder.add(record)
        del self._video, self._decoder
        memory.give_back()
        seconds = time.monotonic() - self._began
        self._folder.log.write(
            f"segment {record.number}: {record.frames} frames from frame {first} on, in {seconds:.1f} s on "
            f"{platform.node()}, sha256 {record.sha256}"
        )
        return record

    def _take(self, packets: list[av.Packet]) -> None:
        if not self._extradata:  # as of the opened encoder, with which the film's container is begun
            self._extradata = self._video.extradata
            if header := self._video.stream.codec_context.extradata:
                self._decoder.extradata = header
        for packet in packets:
            self._file.put(packet)
            self._shown.append(packet.pts or 0)
            self._verify(packet)

    def _verify(self, packet: av.Packet | None) -> None:
        try:
            frames = self._decoder.decode(packet)
        except FFmpegError as error:
            raise MediaError(f"segment {self._number} cannot be decoded again: {error.strerror}") from error
        if any(frame.is_corrupt for frame in frames):
            raise MediaError(f"segment {self._number} is damaged where it is decoded again")
        self._decoded += [frame.pts for frame in frames]

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as error:
            raise MediaError(f"segment {self._number} cannot be encoded: {error.strerror}") from error


def _decoder(codec: str) -> VideoCodecContext:
    """FFmpeg's decoder of what an encoder makes, as far as damage shows: nobody looks at what the loop filter does."""
    name = av.Codec(codec, "w").canonical_name
    name = _DECODERS.get(name, name)
    try:
        decoder = av.CodecContext.create(name, "r")
    except ValueError as error:
        raise MediaError(f"there is no decoder for what {codec} makes, so that it cannot be verified") from error
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_type = "AUTO"
    decoder.options = {"skip_loop_filter": "all"}
    return decoder


def _delay(shown: list[int]) -> int:
    """By how many frames decoding is ahead, of the times of presentation in the order of decoding."""
    ranks = {pts: rank for rank, pts in enumerate(sorted(shown))}
    return max(place - ranks[pts] for place, pts in enumerate(shown))


def _threads(codec: str, cores: int) -> int:
    """How many threads an encoder takes, as it would choose itself, and then fixed: they decide over its bytes."""
    if codec == "libx264":
        cores = cores * 3 // 2
    elif codec == "libx265":
        cores = next((threads for least, threads in _X265_THREADS if cores >= least), 1)
    return max(1, min(cores, _MOST_THREADS))
