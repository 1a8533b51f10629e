"""Frames as pictures for people: PNG files, and crops side by side with a label each."""

# pyright: reportAttributeAccessIssue=false

from collections.abc import Sequence

import av
import vapoursynth as vs

from vsaether import colour
from vsaether.media.exchange import prop, still, to_av
from vsaether.media.formats import Tags
from vsaether.media.images import encode

Crop = tuple[int, int, int, int]
"""Left, top, width and height of a part of a picture, in pixels."""


def whole(frame: av.VideoFrame) -> vs.VideoNode:
    """A clip of one frame in its very size: without subsampling where an odd size could not be held with it."""
    return cropped(still(frame), frame.width, frame.height)


def cropped(clip: vs.VideoNode, width: int, height: int) -> vs.VideoNode:
    """The top left part of a clip; without subsampling where it could not be held with it."""
    if (clip.width, clip.height) == (width, height):
        return clip
    plain = vs.core.query_video_format(clip.format.color_family, clip.format.sample_type, clip.format.bits_per_sample)
    if clip.format.id != plain.id:
        clip = clip.resize.Bicubic(format=plain.id)
    return clip.std.Crop(right=clip.width - width, bottom=clip.height - height)


def png(clip: vs.VideoNode) -> bytes:
    """The first frame of a clip as a PNG of 8 bits: what a browser shows as a player would.

    PQ and HLG are told in the file, so that it is shown as HDR or mapped to the screen. Of standard dynamic range
    nothing is told: everything shows that as sRGB, as players do, though BT.709 has another curve on paper.
    """
    transfer, primaries = (prop(clip, name, colour.UNSPECIFIED) for name in ("_Transfer", "_Primaries"))
    with clip.resize.Bicubic(format=vs.RGB24).get_frame(0) as frame:
        picture = to_av(frame)
    if transfer in (colour.PQ, colour.HLG):
        known = colour.BT2020_PRIMARIES if primaries == colour.UNSPECIFIED else primaries
        Tags(vs.MATRIX_RGB, 2, known, transfer, 0).put(picture)
    return encode(picture, ".png")[0]


def side_by_side(clips: Sequence[vs.VideoNode], labels: Sequence[str], crop: Crop, zoom: int) -> vs.VideoNode:
    """A part of each clip, enlarged without smoothing and labelled, from left to right.

    The crop counts in pixels of a clip as large as the last; smaller ones are enlarged so first, without smoothing.
    """
    whole = clips[-1]
    sides = []
    for clip, label in zip(clips, labels, strict=True):
        rgb = clip.resize.Bicubic(format=vs.RGB24).resize.Point(whole.width, whole.height)
        left, top, width, height = crop
        part = rgb.std.CropAbs(width, height, left, top).resize.Point(width * zoom, height * zoom)
        room = part.std.AddBorders(right=max(0, 64 - part.width), bottom=max(0, 64 - part.height))  # text's least
        sides.append(room.text.Text(label, alignment=7, scale=2))
    return vs.core.std.StackHorizontal(sides)
