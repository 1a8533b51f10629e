"""Whether a film looks interlaced or telecined, found in a few of its frames before the work begins.

FFmpeg's idet tells combed frames, and fields that repeat those of the frame before: two of five in 3:2 pulldown, always
at the same places. Some progressive pictures look combed to it, so rows must also differ more from their neighbours
than from the rows two apart, where something moves.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.filter import Graph

from .info import VideoInfo

_WINDOW = 16  # frames in a row: three cycles of 3:2 pulldown
_WINDOWS = 6
_EVERY = 200  # frames of film for a window, so that they cost nothing worth mentioning
_HIGHEST = 1088  # rows; nothing larger is made of fields
_CYCLE = 5
_MOVED = 20  # of 255
_COMBED = 1.1  # films: 0.5 to 0.9; made fields of them: 1.2 to 3


def notes(path: Path, stream: int, info: VideoInfo) -> Iterator[str]:
    """What a film's fields ask for, in a sentence with the remedy; nothing of an ordinary progressive film.

    ``stream`` is the video's number in the file. A pipe, which can be read but once, is not looked into.
    """
    found = _looked_at(path, stream, info)
    flagged = " and flagged as interlaced" if info.interlaced else ""
    if "telecined" in found:
        yield (
            f"the input looks telecined{flagged} (film in fields, of which two in five are shown twice); "
            "--deinterlace telecine puts the frames of the film together again"
        )
    elif info.interlaced:
        what = "parts of the input are" if info.mixed else "the input is"
        yield f"{what} interlaced, and stays so; --deinterlace flagged makes whole frames of what is"
    elif "times" in found:
        yield "the input is telecined by its flags alone: its frames are whole, and keep their times of 2 and 3 fields"
    elif found and found[0] in ("tff", "bff"):
        first = "top" if found[0] == "tff" else "bottom"
        yield (
            f"the input looks interlaced (the {first} field first), but is not flagged so: it is upscaled as whole "
            f"frames; --deinterlace {first} makes such of it"
        )


def _looked_at(path: Path, stream: int, info: VideoInfo) -> list[str]:
    """What at least a third of the windows in which something moves look like, the most frequent first."""
    if not path.is_file() or info.height > _HIGHEST:
        return []
    found: list[str] = []
    with suppress(FFmpegError, ValueError):
        found = [look for frames in _windows(path, stream, info) if (look := looks(frames))]
    counts = {look: found.count(look) for look in found}
    return sorted((look for look in counts if 3 * counts[look] >= len(found)), key=counts.__getitem__, reverse=True)


def _windows(path: Path, number: int, info: VideoInfo) -> Iterator[list[av.VideoFrame]]:
    """Frames in a row, at places evenly spread over the film."""
    count = min(_WINDOWS, 1 + info.frames // _EVERY)
    with av.open(str(path.absolute())) as container:
        stream = container.streams[number]
        assert isinstance(stream, av.VideoStream)
        stream.thread_type = "AUTO"
        for place in range(count):
            if place and container.duration:
                container.seek((container.start_time or 0) + container.duration * place // count)
            frames: list[av.VideoFrame] = []
            for frame in container.decode(stream):
                if not frame.is_corrupt:
                    frames.append(frame)
                if len(frames) == _WINDOW:
                    break
            yield frames


def looks(frames: Sequence[av.VideoFrame]) -> str | None:
    """ "telecined", "times" (so by flags), "tff" or "bff" (interlaced), "progressive", or None if it cannot be told."""
    if len(frames) < 2 * _CYCLE:
        return None
    if _in_turn([frame.pts for frame in frames]):
        return "times"
    single, repeated = _idet(frames)
    places = [[n % _CYCLE for n, each in enumerate(repeated) if each == field] for field in ("top", "bottom")]
    if all(len(each) > 1 and len(set(each)) == 1 for each in places) and places[0][0] != places[1][0]:
        return "telecined"
    top, bottom = single.count("tff"), single.count("bff")
    most, least = max(top, bottom), min(top, bottom)
    if 2 * most >= len(single) and 10 * least <= most:
        return ("tff" if top > bottom else "bff") if _combs(frames) > _COMBED else None
    return "progressive" if 2 * single.count("progressive") >= len(single) else None


def _idet(frames: Sequence[av.VideoFrame]) -> tuple[list[str], list[str]]:
    """What idet takes each frame for, and which of its fields repeats."""
    first, graph = frames[0], Graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("idet"), graph.add("buffersink")).configure()
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, 25)
        source.push(frame)
    source.push(None)
    told: list[dict[str, str]] = []
    with suppress(BlockingIOError, EOFError):
        while True:
            told.append(dict(graph.vpull().metadata))
    single, repeated = ([each[f"lavfi.idet.{key}.current_frame"] for each in told] for key in ("single", "repeated"))
    return single, repeated


def _combs(frames: Sequence[av.VideoFrame]) -> float:
    """By what factor rows differ more from their neighbours than from those two apart, where something moves."""
    luma = [frame.reformat(format="gray").to_ndarray().astype(np.int16) for frame in frames[: _CYCLE + 1]]
    near = far = 0
    for before, shown in itertools.pairwise(luma):
        moved = np.abs(shown - before)[2:] > _MOVED
        near += int(np.abs(shown[2:] - shown[1:-1])[moved].sum())
        far += int(np.abs(shown[2:] - shown[:-2])[moved].sum())
    return near / far if far else float(near > 0) * 2 * _COMBED


def _in_turn(times: Sequence[int | None]) -> bool:
    """Whether frames last 2 and 3 fields in turn."""
    known = np.array([time for time in times if time is not None], float)
    steps = np.diff(known)
    if len(known) < len(times) or not (steps > 0).all():
        return False
    pairs = steps[: len(steps) // 2 * 2].reshape(-1, 2)
    short, long = np.sort(pairs.mean(0))
    return bool(abs(long / short - 1.5) < 0.05 and np.ptp(pairs, 0).max() <= 0.1 * short)
