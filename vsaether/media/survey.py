"""A look into all parts of a film before work begins: what the first frames do not tell."""

from contextlib import suppress
from pathlib import Path

import av
from av.error import FFmpegError

_PLACES = 8
_FRAMES = 3  # at each place
_PROGRESSIVE = ("apng", "av1", "gif", "png", "vp8", "vp9")  # codecs which have no fields


def later_interlaced(path: Path, stream: int) -> bool:
    """Whether frames of a file's video, at places spread over it, are flagged as interlaced.

    What cannot be searched or decoded there is passed over. ``stream`` is the video's number in the file.
    """
    with suppress(FFmpegError), av.open(str(path.absolute())) as container:
        video = container.streams[stream]
        length = container.duration
        if not isinstance(video, av.VideoStream) or not length or video.codec_context.name in _PROGRESSIVE:
            return False
        for place in range(1, _PLACES + 1):
            with suppress(FFmpegError):
                container.seek((container.start_time or 0) + length * place // (_PLACES + 1))
                for number, frame in enumerate(container.decode(video)):
                    if frame.interlaced_frame:
                        return True
                    if number + 1 == _FRAMES:
                        break
    return False
