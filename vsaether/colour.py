"""Colour: from any clip to the RGB which engines work on, and back. Filter and command line guess here, and only here.

What the frames say is honoured and restored: ``_Matrix``, ``_Range``, ``_Transfer``, ``_Primaries`` and
``_ChromaLocation``. What they leave open is guessed, and what had to be guessed to convert at all is written into the
result, so that nothing downstream guesses differently from the larger size:

- matrix of YUV: BT.2020 (non-constant luminance) where the primaries are BT.2020's or the transfer is PQ or HLG;
  otherwise by size, up to 1024x576: SMPTE 170M up to 486 lines, BT.470 BG above; BT.709 for everything larger.
- range: full for RGB, and for gray of an image file, which knows no other; limited for YUV and all other gray.
- chroma location: left, as in VapourSynth's own resizers.
- transfer and primaries stay open, unless the matrix cannot do without (ICtCp: PQ; constant-luminance
  BT.2020: its own transfer; both with BT.2020's primaries).

Frame 0 decides on guesses and on the tags of the result; other frames which are tagged otherwise are read by their own
tags, and come out in the colour of frame 0.
"""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import vapoursynth as vs

from .errors import ArgumentError, ClipError

UNSPECIFIED = 2
RGB, BT709, BT470BG, SMPTE170M, BT2020_NCL, BT2020_CL, ICTCP = 0, 1, 5, 6, 9, 10, 14
LIMITED, FULL = 0, 1
PQ, HLG, BT2020_TRANSFER, BT2020_PRIMARIES = 16, 18, 14, 9

MATRICES = (1, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14)
TRANSFERS = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
PRIMARIES = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22)
DITHERS = ("none", "ordered", "random", "error_diffusion")

MATRIX_NAMES = {
    "709": 1, "fcc": 4, "470bg": 5, "170m": 6, "240m": 7, "ycgco": 8, "2020ncl": 9, "2020cl": 10,
    "chromancl": 12, "chromacl": 13, "ictcp": 14,
}  # fmt: skip
RANGE_NAMES = {"limited": LIMITED, "full": FULL}
"""VapourSynth's names, as its resize takes them for matrix_s and range_s."""

NEEDS = {
    BT2020_CL: {"_Transfer": BT2020_TRANSFER, "_Primaries": BT2020_PRIMARIES},
    ICTCP: {"_Transfer": PQ, "_Primaries": BT2020_PRIMARIES},
}
"""Tags without which a matrix means nothing, and the guess for each."""


@dataclass(frozen=True)
class Colour:
    """How a clip's samples stand for colours."""

    format: vs.VideoFormat
    matrix: int
    range: int
    chroma_location: int | None
    assume: Mapping[str, int] = field(default_factory=dict)
    """Frame properties in whose place the clip's own are wrong, or overridden by the caller."""
    restore: Mapping[str, int] = field(default_factory=dict)
    """Frame properties of the result which the conversion cannot carry."""


def describe(
    format: vs.VideoFormat,
    width: int,
    height: int,
    props: Mapping[str, Any],
    *,
    matrix: int | str | None = None,
    range: int | str | None = None,
) -> Colour:
    """Complete the tags of frame 0 (props) of a clip of that format and size.

    matrix and range (H.273 numbers; 0 limited, 1 full; or VapourSynth's names) are the caller's, in place of the tags.
    Raises ArgumentError or ClipError if the colours cannot be converted to RGB and back.
    """
    family = format.color_family
    tags = {key: int(props[key]) for key in ("_Matrix", "_Transfer", "_Primaries", "_ChromaLocation") if key in props}
    assume: dict[str, int] = {}
    restore: dict[str, int] = {}
    for key, known in (("_Transfer", TRANSFERS), ("_Primaries", PRIMARIES)):
        if tags.get(key, UNSPECIFIED) not in known:
            restore[key] = tags.pop(key)
            assume[key] = UNSPECIFIED

    levels = int(props.get("_Range", guess_range(family)))
    if range is not None:
        number = RANGE_NAMES.get(range) if isinstance(range, str) else range
        if number not in (LIMITED, FULL):
            raise ArgumentError(f"range is {range!r}; it must be 0 (limited) or 1 (full), or its name")
        levels = assume["_Range"] = number

    if family == vs.RGB:
        if matrix not in (None, RGB, "rgb"):
            raise ArgumentError(f"matrix is {matrix!r}, but the clip is RGB; leave it out")
        coefficients = RGB
        if tags.get("_Matrix", RGB) not in (RGB, UNSPECIFIED):
            assume["_Matrix"] = RGB
    else:
        coefficients = _matrix(width, height, tags, matrix, assume)
        for key, guess in NEEDS.get(coefficients, {}).items():
            if tags.get(key, UNSPECIFIED) == UNSPECIFIED:
                assume[key] = guess
                restore.pop(key, None)

    subsampled = format.subsampling_w or format.subsampling_h
    colour = Colour(
        format=format,
        matrix=coefficients,
        range=levels,
        chroma_location=tags.get("_ChromaLocation") if subsampled else None,
        assume=assume,
        restore=restore,
    )
    _try(colour, tags)
    return colour


def guess_range(family: vs.ColorFamily, image: bool = False) -> int:
    """The range of samples of which no tag tells it; image: they are those of an image file."""
    return FULL if family == vs.RGB or (image and family == vs.GRAY) else LIMITED


def _matrix(width: int, height: int, tags: dict[str, int], given: int | str | None, assume: dict[str, int]) -> int:
    known = ", ".join(map(str, MATRICES))
    if given is not None:
        number = MATRIX_NAMES.get(given) if isinstance(given, str) else given
        if number not in MATRICES:
            raise ArgumentError(
                f"matrix is {given!r}; it must be one of {known} (as in H.273 and VapourSynth's resize), or a name: "
                f"{', '.join(MATRIX_NAMES)}"
            )
        assume["_Matrix"] = number
        return number
    tagged = tags.get("_Matrix", UNSPECIFIED)
    if tagged in MATRICES:
        return tagged
    guess = _guess_matrix(width, height, tags)
    if tagged in (RGB, 3):  # an impossible and a reserved value: as good as untagged
        assume["_Matrix"] = guess
    elif tagged != UNSPECIFIED:
        raise ClipError(
            f"frame 0 has _Matrix={tagged}, which cannot be converted; if the tag is wrong, give vsaether.upscale the "
            f"right matrix, one of {known}"
        )
    return guess


def _guess_matrix(width: int, height: int, tags: dict[str, int]) -> int:
    if tags.get("_Primaries") == BT2020_PRIMARIES or tags.get("_Transfer") in (PQ, HLG):
        return BT2020_NCL
    if width <= 1024 and height <= 576:
        return SMPTE170M if height <= 486 else BT470BG
    return BT709


def _try(colour: Colour, tags: dict[str, int]) -> None:
    """Convert one small frame both ways, so that what cannot work fails now and not at the first frame."""
    blank = vs.core.std.BlankClip(format=colour.format.id, width=16, height=16, length=1, keep=True)
    blank = blank.std.SetFrameProps(**{**tags, "_Range": colour.range})
    try:
        from_rgb(to_rgb(blank, colour), colour, "none").get_frame(0).close()
    except vs.Error as error:
        told = ", ".join(f"{key}={value}" for key, value in tags.items()) or "no colour tags"
        raise ClipError(f"the colours of frame 0 ({told}) cannot be converted to RGB and back: {error}") from error


def to_rgb(clip: vs.VideoNode, colour: Colour) -> vs.VideoNode:
    """RGBS in [0, 1] and full range, at the clip's size."""
    if colour.assume:
        clip = clip.std.SetFrameProps(**colour.assume)
    if clip.format.id != vs.RGBS:
        # A frame's own tags take precedence over the arguments.
        clip = clip.resize.Bicubic(format=vs.RGBS, matrix_in=colour.matrix, range_in=colour.range)
    exact = colour.format.color_family == vs.RGB and colour.format.sample_type == vs.INTEGER and colour.range == FULL
    return clip if exact else clip.std.Limiter(min=0, max=1)


def from_rgb(clip: vs.VideoNode, colour: Colour, dither: str) -> vs.VideoNode:
    """RGBS or RGBH to the format and colour of the source. Values beyond [0, 1] are left to the format's limits."""
    if colour.format.id != vs.RGBS:
        arguments: dict[str, Any] = {"format": colour.format.id, "range": colour.range, "dither_type": dither}
        if colour.format.color_family != vs.RGB:
            arguments["matrix"] = colour.matrix
        if colour.chroma_location is not None:
            arguments["chromaloc"] = colour.chroma_location
        clip = clip.resize.Bicubic(**arguments)
    elif clip.format.id != vs.RGBS:
        clip = clip.resize.Point(format=vs.RGBS)
    return clip.std.SetFrameProps(**colour.restore) if colour.restore else clip
