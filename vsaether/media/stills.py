"""Still images: which files are, and reading them. What FFmpeg decodes is an image, and what moves is a video."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import av
import vapoursynth as vs
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from vsaether import colour
from vsaether.errors import MediaError

from .encoders import MUXERS
from .formats import UNTAGGED, Layout, Tags, color_range, planar
from .muxer import ffmpeg_errors
from .truncation import is_cut

_USUAL = "apng avif bmp dds dib dpx exr gif hdr heic heif ico jfif jpe jpeg jpg jxl png psd qoi svg tga tif tiff webp"
_RARE = "j2c j2k jls jp2 jpc pam pbm pcx pfm pgm phm pnm ppm ras sgi sun wbmp xbm xpm xwd"
NAMED = frozenset(f".{name}" for name in f"{_USUAL} {_RARE}".split())
"""Suffixes of files which are taken for images unopened."""
_FORMATS = ("image2", "ico", "gif", "apng", "webp", "webp_anim", "jpegxl_anim")
_BRANDS = ("avif", "avis", "mif1", "msf1", "heic", "heix", "hevc", "hevx")
_METADATA = re.compile(r"exif|icc|icc profile|iptc|xmp|metadata|comment|app\b|app fields|adobe|tag", re.IGNORECASE)
_NAMES = 20


class NotAStillError(MediaError):
    """The file is sound, as far as known, but no still image that can be decoded; ``what`` it is instead."""

    def __init__(self, path: Path, what: str, remedy: str) -> None:
        super().__init__(f"{path} is {what}; {remedy}")
        self.what = what


def list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """The images of a folder in natural order, 2 before 10; and the names of what else is there, hidden files apart."""
    images, others = [], []
    for path in sorted(folder.iterdir(), key=_natural):
        if path.name.startswith("."):
            continue
        if path.is_file() and (path.suffix.lower() in NAMED or is_still(path)):
            images.append(path)
        else:
            others.append(f"{path.name} (a folder)" if path.is_dir() else path.name)
    return images, others


def listed(names: Iterable[str]) -> str:
    """Names in a sentence, of very many only the first."""
    names = list(names)
    more = [f"and {len(names) - _NAMES} more"] if len(names) > _NAMES else []
    return ", ".join([*names[:_NAMES], *more])


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts] + [(0, path.name)]


def is_still(path: Path) -> bool:
    """Whether a file is to be read as a still image, sound or not: by its content, or if it has none, by its name."""
    if not path.is_file() or path.suffix.lower() in MUXERS:
        return False
    try:
        with _open(path) as container:
            return _holds_images(container) and not _moves(container)
    except MediaError:
        return path.suffix.lower() in NAMED


def _moves(container: InputContainer) -> bool:
    """Whether there is a second frame."""
    stream = container.streams.best("video")
    try:
        return stream is not None and len(list(zip(range(2), container.decode(stream), strict=False))) > 1
    except FFmpegError:
        return False


def read_image(path: Path) -> av.VideoFrame:
    """The picture of an image file.

    Raises NotAStillError if it is something else, and MediaError if it cannot be read, or is damaged: a picture which
    is not whole is none.
    """
    try:
        cut = is_cut(path.read_bytes())
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}") from error
    with ffmpeg_errors() as log:
        frame, decoder = _first(path)
    said = [text.strip() for _, name, text in log if name == decoder and not _METADATA.search(text)]
    if cut or said or frame.is_corrupt:
        raise MediaError(f"{path} is damaged: {'the file is cut off' if cut or not said else said[0]}")
    return frame


def _first(path: Path) -> tuple[av.VideoFrame, str]:
    """The only picture of a file, and the decoder's name."""
    with _open(path) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or not _holds_images(container):
            raise NotAStillError(path, "not an image", "give images, or a video alone")
        decoder = stream.codec_context
        if decoder is None:
            raise NotAStillError(path, "an image for which FFmpeg has no decoder here", "convert it to PNG first")
        if stream.disposition & Disposition.dependent:
            raise NotAStillError(path, "an image made of tiles, which FFmpeg does not join", "convert it to PNG first")
        decoder.thread_count = 1  # what it has to say is heard in this thread alone
        decoder.options = {"err_detect": "crccheck"}
        try:
            frames = [frame for _, frame in zip(range(2), container.decode(stream), strict=False)]
        except (FFmpegError, OSError) as error:
            raise MediaError(f"{path} cannot be read as an image: {error.strerror}") from error
        if len(frames) > 1:
            raise NotAStillError(path, "an animation", "give a still image, or it alone, as a video")
        if not frames:
            raise MediaError(f"{path} cannot be read as an image: it is empty")
        frame, mask = frames[0], _mask_stream(container, stream)
        family = Layout.of(frame.format.name).family
        if not frame.color_range and family == vs.GRAY:  # FFmpeg's decoders of YUV know what their format says
            frame.color_range = color_range(colour.guess_range(family, image=True))
    return (frame if mask is None else _with_alpha(path, frame, mask)), decoder.name


def _mask_stream(container: InputContainer, picture: VideoStream) -> int | None:
    """The stream with the alpha of an AVIF or HEIF image: FFmpeg leaves it beside the picture."""
    for stream in container.streams.video if "mp4" in container.format.name else ():
        context = stream.codec_context
        if stream is picture or context is None or stream.frames != 1 or context.format is None:
            continue
        if context.format.name.startswith("gray") and (stream.width, stream.height) == (picture.width, picture.height):
            return stream.index
    return None


def _with_alpha(path: Path, frame: av.VideoFrame, stream: int) -> av.VideoFrame:
    """The picture with the samples of another stream of its file as alpha."""
    frame, layout = planar(frame)
    try:
        with _open(path) as container:
            other = container.streams[stream]
            assert isinstance(other, VideoStream)
            mask = next(container.decode(other))
    except (FFmpegError, StopIteration) as error:
        raise MediaError(f"{path} is damaged: its alpha channel cannot be read") from error
    whole = dataclasses.replace(layout, alpha=True)
    gray = mask.reformat(format=Layout(vs.GRAY, layout.bits).pix_fmt, dst_color_range="JPEG")
    tags = Tags.of(frame)
    UNTAGGED.put(frame)
    result = frame.reformat(format=whole.pix_fmt)
    tags.put(result)
    result.make_writable()
    alpha = whole.planes(result)[1]
    assert alpha is not None
    alpha[:] = dataclasses.replace(whole, family=vs.GRAY, subsampling=(0, 0), alpha=False).planes(gray)[0][0]
    return result


def _holds_images(container: InputContainer) -> bool:
    name = container.format.name
    brand = container.metadata.get("major_brand", "").strip() if "mp4" in name else ""
    return name.endswith("_pipe") or name in _FORMATS or brand in _BRANDS


def _open(path: Path) -> InputContainer:
    try:
        # A colon in a relative name is no protocol, and % no pattern.
        return av.open(str(path.absolute()), "r", options={"pattern_type": "none"})
    except (FFmpegError, OSError) as error:
        raise MediaError(f"{path} cannot be read as a video or an image: {error.strerror}") from error
