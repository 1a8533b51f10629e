"""Image files in and out: read one by one, each with its own size and format, and written as they are finished."""

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import vapoursynth as vs
from av.codec.codec import find_best_pix_fmt_of_list
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from vsaether import colour
from vsaether.errors import MediaError

from . import density
from .density import Density
from .encoders import losses
from .exif import EMPTY, add_to_jpeg, add_to_webp, extras, resolution, with_resolution, with_size
from .files import PendingFolder
from .formats import AS_TAGGED, Layout, TagOverride, Tags, color_range, complete, planar
from .info import VideoInfo
from .stills import NotAStillError, listed, read_image

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
    ".tga": ("targa", ["gray", "bgr24", "bgra"], {}),
    ".ppm": ("ppm", ["rgb24", "rgb48be"], {}),
    ".pgm": ("pgm", ["gray", "gray16be"], {}),
    ".exr": ("exr", ["grayf32le", "gbrpf32le", "gbrapf32le"], {"compression": "zip16"}),
}
_CODECS[".tiff"], _CODECS[".jpeg"] = _CODECS[".tif"], _CODECS[".jpg"]
SUFFIXES = frozenset(_CODECS)
"""Of the image files that can be written."""
_EXIF_LOST, _PROFILE_LOST = ("bmp", "targa", "ppm", "pgm", "exr"), ("bmp", "targa", "ppm", "pgm", "exr", "tiff")
_JPEG_QUALITY = 2 * 118  # quantiser 2, in FFmpeg's lambda units


class ImageSource:
    """Image files as frames named after the files; with a rate, as a video of as many frames.

    Where it is ``tolerant``, images which cannot be read are left out: ``failed`` tells why, by name. What is no still
    image is left out of a folder always; ``others`` names it.
    """

    def __init__(
        self, paths: list[Path], rate: Fraction, tolerant: bool, others: list[str], tags: TagOverride = AS_TAGGED
    ) -> None:
        self._tags = tags
        self.paths = paths
        self.failed: dict[str, str] = {}
        self.others = others
        self._rate = rate
        self.tolerant = tolerant
        self._names = _written_names(paths)
        self._folder = paths[0].parent
        found = next((frame for frame, _ in self), None)
        if found is None:
            raise MediaError(self.failure() or f"{self._folder} holds no still images, but {listed(self.others)}")
        frame, layout = planar(found)
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
        number = 0
        for path in self.paths:
            try:
                frame = read_image(path)
                Layout.of(frame.format.name)
                self._tags.put(frame)
            except NotAStillError as error:
                if len(self.paths) == 1:
                    raise
                self.others.append(f"{path.name} ({error.what})")
                continue
            except MediaError as error:
                if not self.tolerant:
                    raise
                self.failed[path.name] = str(error)
                continue
            frame.time_base = 1 / self._rate
            frame.pts, frame.duration = number, 1
            number += 1
            yield frame, path.name

    def carries(self, frame: av.VideoFrame) -> bool:
        """Whether a frame may have EXIF data, or a colour profile."""
        return True

    def written_name(self, name: str, number: int) -> str:
        """The name of the file which an image becomes: its own, if there is an encoder for it."""
        return self._names[name]

    def density(self, name: str) -> Density | None:
        """The density which an image tells."""
        return density.read(self._folder / name)

    def notices(self) -> list[str]:
        """What was left out though it is not damaged."""
        others = list(dict.fromkeys(self.others))
        if not others:
            return []
        files = "file is" if len(others) == 1 else "files are"
        return [f"{len(others)} {files} no still image that can be decoded here, and left out: {listed(others)}"]

    def failure(self) -> str | None:
        """What could not be done, in a sentence."""
        if not self.failed:
            return None
        return f"{len(self.failed)} of {len(self.paths)} images could not be upscaled: {listed(self.failed.values())}"

    def close(self) -> None:
        """Nothing is open."""


def _written_names(paths: list[Path]) -> dict[str, str]:
    """The name of the file that each image becomes: PNG, where there is no encoder for its own format."""
    taken = {path.name for path in paths if path.suffix.lower() in SUFFIXES}
    names = {}
    for path in paths:
        name = path.name
        if path.suffix.lower() not in SUFFIXES:
            name = path.with_suffix(".png").name
            if name in taken:
                name = f"{path.name}.png"
            taken.add(name)
        names[path.name] = name
    return names


class ImageWriter:
    """Writes each frame as an image into a folder.

    ``name`` gives the file's name for the frame's own name and its number from 1; ``suffix`` is that of all files, or
    None if each has its own. With ``images``, from which the frames come, the files get what frames do not hold, and
    an image which cannot be encoded counts as failed where that is tolerated.
    """

    def __init__(
        self,
        folder: PendingFolder,
        suffix: str | None,
        name: Callable[[str, int], str],
        images: ImageSource | None = None,
    ) -> None:
        self.notices: list[str] = []
        self.frames = 0
        self.size = None
        self.lends = False  # encoders of images work in threads of their own
        self._folder = folder
        self._suffix = suffix
        self._name = name
        self._images = images

    def copy(self, packet: av.Packet) -> None:
        """Images carry nothing else."""

    def target(self, layout: Layout, tags: Tags, suffix: str) -> tuple[Layout, Tags]:
        """The layout and tags of what is encoded, for frames of a layout and tags, and of names with a suffix."""
        codec, names, _ = _CODECS.get(self._suffix or suffix, _CODECS[".png"])
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
        if target.family == vs.GRAY:
            levels = colour.guess_range(vs.GRAY, image=True)  # as whoever reads the file will guess
            tags = dataclasses.replace(tags, color_range=color_range(levels))
        return target, tags

    def _note(self, text: str) -> None:
        if text not in self.notices:
            self.notices.append(text)

    def write(self, frame: av.VideoFrame, name: str) -> None:
        """Write one image."""
        written = self._name(name, self.frames + 1)
        told = self._images.density(name) if self._images else None
        try:
            data, lost = encode(frame, Path(written).suffix.lower(), told)
        except MediaError as error:
            if self._images is None or not self._images.tolerant:
                raise
            self._images.failed[name] = f"{name}: {error}"
            return
        self.frames += 1
        if lost:
            self._note(f"{Path(written).suffix} files cannot be given the {lost} of the input")
        self._folder.add(written, data)

    def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """Nothing is open."""


def encode(frame: av.VideoFrame, suffix: str, told: Density | None = None) -> tuple[bytes, str]:
    """A frame as the bytes of an image file that tells a density; and what of it the file cannot hold, in words."""
    name, names, options = _CODECS[suffix]
    layout = Layout.of(frame.format.name)
    encoder = av.CodecContext.create(name, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = frame.width, frame.height
    encoder.pix_fmt = next(wanted for wanted in names if Layout.of(wanted) == layout)
    encoder.time_base = Fraction(1, 25)
    encoder.sample_aspect_ratio = Fraction(1)  # unset, PNG files would tell one of 0
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
        raise MediaError(f"{name} cannot encode a {frame.width}x{frame.height} image: {error.strerror}") from error
    exif, profile = extras(frame)
    if exif:
        exif = with_size(exif, frame.width, frame.height)
    if name == "libwebp" and told and told.unit and (exif is None or resolution(exif) is None):
        exif = with_resolution(exif or EMPTY, told.x, told.y, told.unit)
    if told:
        data = density.write(data, told)
    if name == "mjpeg" and exif:
        data = add_to_jpeg(data, exif)
    if name == "libwebp" and (exif or profile):
        data = add_to_webp(data, (frame.width, frame.height), layout.alpha, exif, profile)
    lost = {"EXIF data": exif and name in _EXIF_LOST, "colour profile": profile and name in _PROFILE_LOST}
    return data, " and ".join(what for what, is_lost in lost.items() if is_lost)
