"""Images: read one by one, each with its own size and format, and written as they are finished."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import vapoursynth as vs
from av.codec.codec import find_best_pix_fmt_of_list
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from .encoders import losses
from .errors import CliError
from .exif import add_to_jpeg, add_to_webp, extras
from .files import PendingFolder
from .formats import Layout, Tags, complete, planar
from .source import VideoInfo

_CODECS: dict[str, tuple[str, list[str], dict[str, str]]] = {
    ".png": ("png", ["gray", "ya8", "rgb24", "rgba", "gray16be", "ya16be", "rgb48be", "rgba64be"], {}),
    ".tif": (
        "tiff",
        ["gray", "ya8", "rgb24", "rgba", "gray16le", "ya16le", "rgb48le", "rgba64le"],
        {"compression_algo": "deflate"},
    ),
    ".jpg": ("mjpeg", ["yuv420p", "yuv422p", "yuv444p"], {"qmin": "1", "huffman": "optimal"}),
    ".webp": ("libwebp", ["bgra", "yuv420p", "yuva420p"], {"quality": "95"}),
    ".bmp": ("bmp", ["gray", "bgr24", "bgra"], {}),
}
_CODECS[".tiff"], _CODECS[".jpeg"] = _CODECS[".tif"], _CODECS[".jpg"]
SUFFIXES = frozenset(_CODECS)
_FULL = 2
_JPEG_QUALITY = 2 * 118  # quantiser 2, in FFmpeg's lambda units


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order: 2 before 10."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts] + [(0, path.name)]


def read_image(path: Path) -> av.VideoFrame:
    """The picture of an image file. Raises CliError if it cannot be read, or is an animation."""
    try:
        with av.open(str(path.absolute()), "r") as container:
            if not container.streams.video:
                raise CliError(f"{path} is not an image")
            frames = [frame for _, frame in zip(range(2), container.decode(video=0), strict=False)]
    except (FFmpegError, OSError) as error:
        raise CliError(f"{path} cannot be read as an image: {error.strerror}") from error
    if len(frames) != 1:
        raise CliError(f"{path} is {'an animation' if frames else 'empty'}; give a still image, or a video file")
    if not frames[0].color_range and Layout.of(frames[0].format.name).family == vs.GRAY:
        frames[0].color_range = _FULL  # image files know no other, though not all decoders say so
    return frames[0]


class ImageSource:
    """Image files as frames named after the files; with a rate, as a video of as many frames."""

    def __init__(self, paths: list[Path], rate: Fraction = Fraction(25)) -> None:
        self.paths = paths
        self._rate = rate
        frame, layout = planar(read_image(paths[0]))
        self.info = VideoInfo(
            width=frame.width,
            height=frame.height,
            layout=layout,
            tags=complete(Tags.of(frame), layout, frame.width, frame.height),
            sample_aspect_ratio=Fraction(0),
            rate=rate,
            time_base=1 / rate,
            frames=len(paths),
            interlaced=False,
            field_order=0,
            display_matrix=None,
            mastering=None,
            light_level=None,
        )

    def __iter__(self) -> Iterator[tuple[av.VideoFrame, str]]:
        for number, path in enumerate(self.paths):
            frame = read_image(path)
            frame.time_base = 1 / self._rate
            frame.pts, frame.duration = number, 1
            yield frame, path.name

    def carries(self, frame: av.VideoFrame) -> bool:
        """Whether a frame may have EXIF data, or a colour profile."""
        return True

    def close(self) -> None:
        """Nothing is open."""


class ImageWriter:
    """Writes each frame as an image into a folder.

    ``name`` gives the file's name for the frame's own name and its number from 1; ``suffix`` is that of all files, or
    None if each has its own.
    """

    def __init__(self, folder: PendingFolder, suffix: str | None, name: Callable[[str, int], str]) -> None:
        self.notices: list[str] = []
        self.frames = 0
        self.size = None
        self._folder = folder
        self._suffix = suffix
        self._name = name

    def copy(self, packet: av.Packet) -> None:
        """Images carry nothing else."""

    def target(self, layout: Layout, tags: Tags, suffix: str) -> tuple[Layout, Tags]:
        """The layout and tags of what is encoded, for frames of a layout and tags, and of names with a suffix."""
        codec, names, _ = _CODECS[self._suffix or suffix]
        best, _ = find_best_pix_fmt_of_list(names, layout.pix_fmt, layout.alpha)
        assert best is not None
        target = Layout.of(best.name)
        for notice in losses(layout, target, codec) if target.family == layout.family else []:
            self._note(notice)
        tags = tags.converted(layout, target)
        if target.family == vs.YUV:
            # JPEG (JFIF) is full-range BT.601, lossy WebP limited-range.
            full = 2 if codec == "mjpeg" else 1
            tags = Tags(5, full, tags.color_primaries, tags.color_trc, tags.chroma_location)
        return target, tags

    def _note(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)

    def write(self, frame: av.VideoFrame, name: str) -> None:
        """Write one image."""
        self.frames += 1
        name = self._name(name, self.frames)
        data, lost = encode(frame, Path(name).suffix.lower())
        if lost:
            self._note(f"{Path(name).suffix} files cannot be given the {lost} of the input")
        self._folder.add(name, data)

    def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """Nothing is open."""


def encode(frame: av.VideoFrame, suffix: str) -> tuple[bytes, str]:
    """A frame as the bytes of an image file; and what of it the file cannot hold, in words."""
    name, names, options = _CODECS[suffix]
    layout = Layout.of(frame.format.name)
    encoder = av.CodecContext.create(name, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = frame.width, frame.height
    encoder.pix_fmt = next(wanted for wanted in names if Layout.of(wanted) == layout)
    encoder.time_base = Fraction(1, 25)
    Tags.of(frame).put_encoder(encoder)
    encoder.options = dict(options)
    if name == "libwebp" and layout.family == vs.RGB:
        encoder.options["lossless"] = "1"
    if name == "mjpeg":
        encoder.flags |= Flags.qscale
        encoder.global_quality = _JPEG_QUALITY
    try:
        data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    except FFmpegError as error:
        raise CliError(f"{name} cannot encode a {frame.width}x{frame.height} image: {error.strerror}") from error
    exif, profile = extras(frame)
    if name == "mjpeg" and exif:
        data = add_to_jpeg(data, exif)
    if name == "libwebp" and (exif or profile):
        data = add_to_webp(data, (frame.width, frame.height), layout.alpha, exif, profile)
    lost = {"EXIF data": exif and name == "bmp", "colour profile": profile and name in ("bmp", "tiff")}
    return data, " and ".join(what for what, is_lost in lost.items() if is_lost)
