"""What changes on the way through a video, where the result has to stay as it began."""

import av

from .info import VideoInfo


class Changes:
    """Compares each frame with how the video began. FFmpeg's encoders are opened for that, and cannot follow."""

    def __init__(self, info: VideoInfo) -> None:
        self._size = info.width, info.height
        self._interlaced = info.interlaced
        self._found: dict[object, str] = {}

    @property
    def notices(self) -> list[str]:
        """Where each change was first met, and what became of it."""
        return list(self._found.values())

    def see(self, frame: av.VideoFrame, name: str) -> None:
        """Compare a frame, as it was decoded."""
        size = frame.width, frame.height
        if size != self._size:
            was, now = ("x".join(map(str, each)) for each in (self._size, size))
            self._found.setdefault(
                size, f"the size changes from {was} to {now} at {name}; such frames are resized to that of the first"
            )
        if frame.interlaced_frame and not self._interlaced:
            self._found.setdefault(
                "interlaced",
                f"interlaced frames begin at {name}; their fields are upscaled each for itself, and encoded as "
                "progressive frames, as the video began",
            )
