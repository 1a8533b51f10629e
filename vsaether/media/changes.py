"""What changes on the way through a video, where the result has to stay as it began."""

import av

from .formats import Layout, Tags, complete
from .info import VideoInfo

_REMEDY = "--deinterlace flagged makes whole frames of those which are interlaced, and leaves the others as they are"


class Changes:
    """Compares each frame with how the video began: a file has one size, one sample format and one kind of colours.

    FFmpeg's encoders are opened for these, and cannot follow; frames are made what the first ones are.
    """

    def __init__(self, info: VideoInfo) -> None:
        self._size = info.width, info.height
        self._interlaced, self._mixed = info.interlaced, info.mixed
        self._layout = info.layout
        self._tags = info.tags
        self._before: tuple | None = None
        self._found: dict[object, str] = {}

    @property
    def notices(self) -> list[str]:
        """Where each change was first met, and what became of it."""
        return list(self._found.values())

    def see(self, frame: av.VideoFrame, name: str) -> None:
        """Compare a frame, as it was decoded. Names are numbers from 1."""
        kind = (frame.width, frame.height, frame.format.name, frame.interlaced_frame, Tags.of(frame))
        if kind == self._before:
            return
        self._before = kind
        size = frame.width, frame.height
        if size != self._size:
            was, now = ("x".join(map(str, each)) for each in (self._size, size))
            self._found.setdefault(
                size,
                f"the size changes from {was} to {now} at {name}; such frames are resized to that of the first, as a "
                "file has one size; for another, upscale parts apart with --start and --end",
            )
        layout = Layout.of(frame.format.name)
        if layout != self._layout:
            self._found.setdefault(
                layout,
                f"the sample format changes from {self._layout.pix_fmt} to {layout.pix_fmt} at {name}; such frames are "
                "converted to that of the first",
            )
        elif size == self._size and complete(Tags.of(frame), layout, *size) != self._tags:
            self._found.setdefault(
                "colours", f"the colours' tags change at {name}; such frames are converted to the colours of the first"
            )
        if frame.interlaced_frame and not self._interlaced:
            self._found.setdefault(
                "interlaced",
                f"interlaced frames begin at {name}; their fields are upscaled each for itself, and encoded as "
                f"progressive frames, as the video began; {_REMEDY}",
            )
        if self._interlaced and not self._mixed and not frame.interlaced_frame:
            self._found.setdefault(
                "progressive", f"progressive frames begin at {name}, and are encoded as interlaced ones; {_REMEDY}"
            )
