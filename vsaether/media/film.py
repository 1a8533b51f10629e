"""A film in segments, which are kept until it is complete: what was stopped is gone on with.

One process decodes the film from its start, and hands its frames on to the upscaler and the encoder of the segment they
belong to. Frames of segments which are complete are decoded only: that takes a small part of the time, and is exact for
every file, whereas no seeking is. They are compared with what was decoded before.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import av

from vsaether import memory
from vsaether.errors import MediaError

from .cuts import Cutter, checksum
from .formats import planar
from .graph import FrameUpscaler
from .manifest import JobFolder, Record
from .reading import Reader, seconds
from .segments import Recipe, SegmentWriter


class Segment:
    """A segment while its frames come: which they are, and how far they are."""

    def __init__(self, number: int, first: int) -> None:
        self.number = number
        self.first = first
        self.frames = 0
        self.checksum = 0
        self.closed = False
        """Whether all of its frames have come."""
        self.writer: SegmentWriter | None = None
        self.written = 0

    @property
    def complete(self) -> bool:
        """Whether all of its frames have been encoded."""
        return self.closed and self.written == self.frames

    def abandon(self) -> None:
        """Forget what of it has been written."""
        if self.writer:
            self.writer.abandon()


def check(record: Record, decoded: tuple[int, int, int], folder: JobFolder) -> None:
    """Raise MediaError if a segment's first frame, frames and checksum are not those of which there is a record."""
    if decoded != (record.first, record.frames, record.checksum):
        raise MediaError(
            f"segment {record.number} of the input is not what it was: the input has changed, or is decoded "
            f"differently now; remove {folder.path} and begin again"
        )


class FilmRun:
    """Makes the segments of a film which are not ``done`` yet. ``progress`` is told of each frame that is encoded."""

    def __init__(
        self,
        folder: JobFolder,
        recipe: Recipe,
        upscaler: FrameUpscaler,
        done: dict[int, Record],
        progress: Callable[[], object],
    ) -> None:
        self._folder = folder
        self._recipe = recipe
        self._upscaler = upscaler
        self._done = done
        self._progress = progress
        self._waiting: deque[Segment] = deque()
        """The segment of each frame which is in the upscaler."""
        self._ending: Future[Record] | None = None
        self._pool = ThreadPoolExecutor(1)

    @memory.settled()
    def run(self, reader: Reader, cutter: Cutter, stop: Callable[[], bool]) -> int | None:
        """Read the film; the number of its segments, or None if ``stop`` said so where a segment ended."""
        segment: Segment | None = None
        try:
            for item in reader:
                if isinstance(item, av.Packet):
                    continue
                frame, layout = planar(item[0])
                planes, alpha = layout.planes(frame)
                if cutter.begins(planes, layout, seconds(frame)):
                    if segment:
                        self._close(segment)
                        if stop():
                            self._drain()
                            return None
                    segment = Segment(segment.number + 1 if segment else 1, reader.frames - 1)
                assert segment is not None
                segment.frames += 1
                segment.checksum = checksum(planes, alpha, segment.checksum)
                if segment.number not in self._done:
                    self._waiting.append(segment)
                    self._encode(self._upscaler.push(frame, item[1]))
            if segment:
                self._close(segment)
            self._drain()
            return segment.number if segment else 0
        finally:
            self._pool.shutdown()
            for each in {id(each): each for each in (*self._waiting, *filter(None, (segment,)))}.values():
                each.abandon()

    def _close(self, segment: Segment) -> None:
        segment.closed = True
        if record := self._done.get(segment.number):
            check(record, (segment.first, segment.frames, segment.checksum), self._folder)
        elif segment.complete:
            self._end(segment)

    def _drain(self) -> None:
        self._encode(self._upscaler.flush())
        if self._ending:
            self._ending.result()

    def _encode(self, upscaled: Iterator[tuple[av.VideoFrame, str]]) -> None:
        for frame, _ in upscaled:
            segment = self._waiting.popleft()
            if segment.writer is None:
                segment.writer = SegmentWriter(self._folder, segment.number, self._recipe)
            segment.writer.write(frame)
            segment.written += 1
            self._progress()
            if segment.complete:
                self._end(segment)

    def _end(self, segment: Segment) -> None:
        """End a segment while the next one is under way: encoders hold many frames back until then."""
        writer, segment.writer = segment.writer, None
        assert writer is not None
        try:
            if self._ending:
                self._ending.result()
        except BaseException:
            writer.abandon()
            raise
        self._ending = self._pool.submit(writer.finish, segment.first, segment.checksum)
