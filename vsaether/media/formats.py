"""Sample formats: what FFmpeg calls pix_fmt, as VapourSynth formats and planes of samples."""

# pyright: reportAttributeAccessIssue=false

import dataclasses
import functools
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import vapoursynth as vs
from av.rational import AVRational
from av.video.codeccontext import VideoCodecContext

from vsaether import colour
from vsaether.errors import MediaError

_LIMITED, _FULL = 1, 2
_YUV = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (0, 1): "440", (2, 0): "411", (2, 2): "410"}


@dataclass(frozen=True)
class Layout:
    """A planar sample format which both FFmpeg and VapourSynth know, alpha apart.

    ``subsampling`` is the base-2 logarithm of the chroma subsampling (horizontal, vertical); ``bits`` is 8 to 16, or
    32 for float samples.
    """

    family: vs.ColorFamily
    bits: int
    subsampling: tuple[int, int] = (0, 0)
    alpha: bool = False

    @classmethod
    def of(cls, pix_fmt: str) -> "Layout":
        """The layout which holds all that ``pix_fmt`` can hold. Raises MediaError for mosaics and hardware surfaces."""
        fmt = av.VideoFormat(pix_fmt, 64, 64)
        if fmt.has_palette:
            return cls(vs.RGB, 8, alpha=True)
        if fmt.is_bayer or not fmt.components or pix_fmt.startswith("xyz"):
            raise MediaError(
                f"the pixel format {pix_fmt} cannot be upscaled; convert it to YUV, RGB or grayscale first"
            )
        deepest = max(part.bits for part in fmt.components)
        if "f16" in pix_fmt or "f32" in pix_fmt:
            bits = 32
        else:
            bits = next(bits for bits in (8, 9, 10, 12, 14, 16, 32) if bits >= deepest)
        alpha = any(part.is_alpha for part in fmt.components)
        if fmt.is_rgb:
            return cls(vs.RGB, bits, alpha=alpha)
        if len(fmt.components) - alpha == 1:
            return cls(vs.GRAY, bits, alpha=alpha)
        sub = (64 // fmt.chroma_width(64)).bit_length() - 1, (64 // fmt.chroma_height(64)).bit_length() - 1
        return cls(vs.YUV, bits, sub, alpha)._known()

    def _known(self) -> "Layout":
        """Itself, or with 16 bits where FFmpeg has no planar format of this depth."""
        try:
            av.VideoFormat(self.pix_fmt)
        except ValueError:
            return dataclasses.replace(self, bits=16)
        return self

    @property
    def pix_fmt(self) -> str:
        """FFmpeg's name: planar, except that gray with alpha is interleaved (it has no planar form)."""
        depth = "" if self.bits == 8 else "f32le" if self.bits == 32 else f"{self.bits}le"
        if self.family == vs.GRAY:
            return f"ya{depth or 8}" if self.alpha else f"gray{depth}"
        if self.family == vs.RGB:
            return f"gbr{'a' if self.alpha else ''}p{depth}"
        return f"yuv{'a' if self.alpha else ''}{_YUV[self.subsampling]}p{depth}"

    @property
    def vs_format(self) -> vs.VideoFormat:
        """VapourSynth's format of the colour planes."""
        sample = vs.FLOAT if self.bits == 32 else vs.INTEGER
        return vs.core.query_video_format(self.family, sample, self.bits, *self.subsampling)

    @property
    def vs_alpha(self) -> vs.VideoFormat:
        """VapourSynth's format of the alpha plane."""
        return vs.core.query_video_format(vs.GRAY, vs.FLOAT if self.bits == 32 else vs.INTEGER, self.bits)

    def planes(self, frame: av.VideoFrame) -> tuple[list[np.ndarray], np.ndarray | None]:
        """The samples of a frame in this layout, without copying: the planes in VapourSynth's order, and alpha.

        Each is an array of shape (height, width) of the plane.
        """
        dtype = np.dtype(np.float32 if self.bits == 32 else np.uint8 if self.bits == 8 else np.uint16)
        arrays = []
        for plane in frame.planes:
            lines = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
            arrays.append(lines)
        if self.family == vs.GRAY:
            if self.alpha:
                return [arrays[0][:, 0 : 2 * frame.width : 2]], arrays[0][:, 1 : 2 * frame.width : 2]
            return [arrays[0][:, : frame.width]], None
        arrays = [lines[:, : plane.width] for lines, plane in zip(arrays, frame.planes, strict=True)]
        alpha = arrays.pop() if self.alpha else None
        if self.family == vs.RGB:
            green, blue, red = arrays
            arrays = [red, green, blue]
        return arrays, alpha


def planar(frame: av.VideoFrame) -> tuple[av.VideoFrame, Layout]:
    """The frame in the layout which holds all of it; packed samples are unpacked, nothing else changes."""
    layout = Layout.of(frame.format.name)
    if layout.pix_fmt == frame.format.name.replace("yuvj", "yuv"):
        return frame, layout
    tags = Tags.of(frame)
    UNTAGGED.put(frame)
    unpacked = frame.reformat(format=layout.pix_fmt)
    tags.put(frame)
    tags.put(unpacked)
    return unpacked, layout


def fraction(value: AVRational | Fraction | int) -> Fraction:
    """FFmpeg's rational number as an exact one; an undefined one is 0."""
    return Fraction(value.numerator, value.denominator or 1)


@dataclass(frozen=True)
class Tags:
    """How samples are to be read: FFmpeg's numbers (ISO/IEC 23091-2) of a frame or an encoder."""

    colorspace: int
    color_range: int
    color_primaries: int
    color_trc: int
    chroma_location: int

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Tags":
        """A frame's tags."""
        return cls(*(int(getattr(frame, name.name)) for name in dataclasses.fields(cls)))

    def converted(self, source: Layout, target: Layout) -> "Tags":
        """The tags after conversion from one layout to another; the same if the colour family stays.

        RGB is full range; YUV made from RGB or gray is limited-range BT.709.
        """
        if target.family == vs.RGB:
            return dataclasses.replace(self, colorspace=0, color_range=2, chroma_location=0)
        if target.family == source.family:
            return self
        if target.family == vs.YUV:
            return dataclasses.replace(self, colorspace=1, color_range=1, chroma_location=1)
        return dataclasses.replace(self, colorspace=2, chroma_location=0)

    def props(self, layout: Layout) -> dict[str, int]:
        """VapourSynth's frame properties which say the same of samples in a layout."""
        matrix = vs.MATRIX_RGB if layout.family == vs.RGB else self.colorspace or colour.UNSPECIFIED
        props = {
            "_Matrix": matrix,
            "_Transfer": self.color_trc or colour.UNSPECIFIED,
            "_Primaries": self.color_primaries or colour.UNSPECIFIED,
        }
        if self.color_range:
            props["_Range"] = vs.RANGE_FULL if self.color_range == _FULL else vs.RANGE_LIMITED
        if self.chroma_location and layout.family == vs.YUV:
            props["_ChromaLocation"] = self.chroma_location - 1
        return props

    def put(self, frame: av.VideoFrame) -> None:
        """Tag a frame."""
        for name, value in dataclasses.asdict(self).items():
            setattr(frame, name, value)

    def put_encoder(self, context: VideoCodecContext) -> None:
        """Tag an encoder."""
        for name, value in dataclasses.asdict(self).items():
            setattr(context, "chroma_sample_location" if name == "chroma_location" else name, value)


@dataclass(frozen=True)
class TagOverride:
    """What is right where a file's own tags are wrong: matrix (VapourSynth's number) and range (0 limited, 1 full)."""

    matrix: int | None = None
    range: int | None = None

    def put(self, frame: av.VideoFrame) -> None:
        """Tag a decoded frame. Raises MediaError where it is RGB, which has one matrix, and is of full range here."""
        if self == AS_TAGGED:
            return
        if Layout.of(frame.format.name).family == vs.RGB:
            raise MediaError("the input is RGB, of which matrix and range are known; leave --matrix and --range out")
        if self.matrix is not None:
            frame.colorspace = self.matrix
        if self.range is not None:
            frame.color_range = color_range(self.range)


AS_TAGGED = TagOverride()

UNTAGGED = Tags(2, 0, 2, 2, 0)
"""For swscale, which refuses some colours even where it has none to convert."""


def color_range(range: int) -> int:
    """FFmpeg's number of a range of VapourSynth."""
    return _FULL if range == vs.RANGE_FULL else _LIMITED


@functools.cache
def complete(tags: Tags, layout: Layout, width: int, height: int) -> Tags:
    """The tags with what they leave open, guessed as the filter does, so that it does not count on the larger size.

    RGB is full range. Raises vapoursynth.Error if the colours cannot be converted.
    """
    if layout.family == vs.RGB:
        tags = dataclasses.replace(tags, colorspace=vs.MATRIX_RGB, color_range=_FULL)
    known = colour.describe(layout.vs_format, width, height, tags.props(layout))
    if layout.family != vs.YUV:  # gray has no matrix of its own, and neither has more to complete
        return dataclasses.replace(tags, color_range=color_range(known.range))
    needed = {**known.assume, **known.restore}
    return dataclasses.replace(
        tags,
        colorspace=known.matrix,
        color_range=color_range(known.range),
        color_trc=needed.get("_Transfer", tags.color_trc),
        color_primaries=needed.get("_Primaries", tags.color_primaries),
    )
