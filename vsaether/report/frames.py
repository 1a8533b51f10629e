"""Single frames of a video by number or time, without decoding what lies between; or the picture of an image."""

import bisect
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from vsaether.errors import MediaError
from vsaether.media.formats import AS_TAGGED, TagOverride, fraction
from vsaether.media.hdr import dynamic
from vsaether.media.stills import is_still, read_image


class Frames:
    """The frames of a file, numbered from 0 in the order of presentation. Ask for them in increasing order.

    FFmpeg decodes, as in ``vsaether upscale``, so that both number frames alike. Raises MediaError if the file cannot
    be read or holds no video. ``tags`` are right where the file's own are wrong.
    """

    def __init__(self, path: Path, tags: TagOverride = AS_TAGGED) -> None:
        self.path = path
        self._tags = tags
        self._container = None
        self._next = 0
        """The number of the frame which comes next out of the decoder."""
        if not path.is_file():
            raise MediaError(f"{path} is no file; give a video or an image")
        if is_still(path):
            self._still = read_image(path)
            self._times: list[Fraction] | None = [Fraction(0)]
            self.count = 1
            self.codec = path.suffix.lower().lstrip(".")
            return
        try:
            self._container = av.open(str(path.absolute()))
            self._stream = self._video()
            self._index()
            self._decoded = self._decode()
        except FFmpegError as error:
            self.close()
            raise MediaError(f"{path} cannot be read as a video or an image: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self.count

    def time(self, number: int) -> Fraction | None:
        """The time in seconds at which a frame is shown, the first at 0; None where the file does not tell."""
        return self._times[number] - self._times[0] if self._times else None

    def number(self, time: Fraction) -> int:
        """The number of the frame shown at a time in seconds. Raises MediaError if that is behind the last frame."""
        if self._times is None:
            rate = fraction(self._stream.guessed_rate or self._stream.average_rate or 25)
            number = int(time * rate)
        else:
            shown = [each - self._times[0] for each in self._times]
            number = bisect.bisect_right(shown, time) - 1
            step = shown[-1] / (self.count - 1) if self.count > 1 else Fraction(0)
            number += time > shown[-1] + step
        if not 0 <= number < self.count:
            raise MediaError(f"{self.path} has no frame at {float(time):g} s; its last one is number {self.count - 1}")
        return number

    def frame(self, number: int) -> av.VideoFrame:
        """A frame. Raises MediaError if it cannot be decoded, or is RGB, whose tags are never wrong."""
        try:
            found = self._still if self._container is None else self._find(number)
        except FFmpegError as error:
            raise MediaError(f"{self.path}: frame {number} cannot be decoded: {error.strerror}") from error
        self._tags.put(found)
        return found

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()

    def _video(self) -> VideoStream:
        assert self._container is not None
        stream = self._container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
            raise MediaError(f"{self.path} holds no video")
        if stream.codec_context is None:
            raise MediaError(f"{self.path}: there is no decoder for its video")
        dynamic(self.path, stream.codec_context.coded_side_data, ())
        stream.thread_type = "AUTO"
        self.codec = stream.codec_context.codec.canonical_name
        return stream

    def _index(self) -> None:
        """Read the packets' times: which frames there are, and from which of them decoding can begin."""
        assert self._container is not None
        packets = self._container.demux(self._stream)  # one at a time: a film of them is larger than the memory
        found = [(each.pts, each.is_keyframe) for each in packets if each.size and not each.is_discard]
        if not found:
            raise MediaError(f"{self.path} holds no video frames")
        self.count = len(found)
        self._pts = sorted({pts for pts, _ in found if pts is not None})
        self._keys = sorted(pts for pts, is_key in found if is_key and pts is not None)
        seekable = len(self._pts) == self.count and bool(self._keys)
        self._times = [pts * fraction(self._stream.time_base) for pts in self._pts] if seekable else None
        if not seekable:
            self._container.close()  # not each format can be read again from its start
            self._container = av.open(str(self.path.absolute()))
            self._stream = self._video()
        else:
            self._container.seek(self._pts[0], stream=self._stream)

    def _decode(self) -> Iterator[av.VideoFrame]:
        assert self._container is not None
        yield from self._container.decode(self._stream)

    def _find(self, number: int) -> av.VideoFrame:
        if self._times is None:
            return self._count_to(number)
        wanted = self._pts[number]
        key = bisect.bisect_right(self._keys, wanted) - 1
        if key >= 0 and bisect.bisect_left(self._pts, self._keys[key]) > self._next:
            self._seek(self._keys[key])
        found = self._read_to(wanted)
        if found is None:  # the container's index led too far: from the start, then
            self._seek(self._pts[0])
            found = self._read_to(wanted)
        if found is None:
            raise MediaError(f"{self.path}: frame {number} cannot be decoded")
        self._next = number + 1
        return found

    def _count_to(self, number: int) -> av.VideoFrame:
        for frame in self._decoded:
            self._next += 1
            if self._next == number + 1:
                return frame
        raise MediaError(f"{self.path}: frame {number} cannot be decoded")

    def _seek(self, pts: int) -> None:
        assert self._container is not None
        self._container.seek(pts, stream=self._stream)
        self._decoded = self._decode()

    def _read_to(self, wanted: int) -> av.VideoFrame | None:
        """The frame of a time; None if decoding has begun behind it, or it is not there."""
        for frame in self._decoded:
            if frame.pts is not None and frame.pts >= wanted:
                return frame if frame.pts == wanted else None
        return None
