"""Interlaced frames: each field is upscaled for itself, and the fields are woven again.

An engine sees rows as neighbours which in an interlaced frame are taken at different times. So the fields are taken
apart, upscaled, and put together: the result is interlaced as the source is, with as many frames.

Frame 0 decides for the whole clip: progressive frames in an interlaced clip are upscaled as fields too, which costs
them vertical detail; interlaced frames in a clip which begins progressive are upscaled whole. Where the flags of a file
are wrong or mixed, std.SetFieldBased before the filter says what to do.

The rows of an upscaled field are centred on the field's own grid, which is not where the larger frame has its fields:
with scale s, rows of the top field are needed (s - 1) / 4 of their distance further down, those of the bottom field
as far further up. A resampler moves them there.
"""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from collections.abc import Callable, Mapping
from typing import Any

import vapoursynth as vs

from .backends.half import as_float
from .errors import ClipError

PROGRESSIVE, TOP_FIRST = 0, 2


def is_interlaced(clip: vs.VideoNode, props: Mapping[str, Any]) -> bool:
    """Whether frame 0 (props) is flagged as interlaced by ``_FieldBased``.

    Raises ClipError if it is, and its height cannot be parted into fields.
    """
    if not int(props.get("_FieldBased", PROGRESSIVE)):
        return False
    unit = 2 << clip.format.subsampling_h
    if clip.height % unit:
        raise ClipError(
            f"frame 0 is flagged as interlaced, but fields of {clip.format.name} need a height divisible by {unit}; "
            f"it is {clip.height}; crop it, or if the clip is progressive, say so with std.SetFieldBased(0)"
        )
    return True


def upscale_fields(rgb: vs.VideoNode, scale: int, infer: Callable[[vs.VideoNode], vs.VideoNode]) -> vs.VideoNode:
    """Pass the fields of RGBS frames of even height through infer, which multiplies their size by scale.

    Which field comes first in time changes nothing here: all frames are treated as top field first.
    """
    fields = as_float(infer(rgb.std.SetFieldBased(TOP_FIRST).std.SeparateFields(modify_duration=False)))
    shift = (scale - 1) / 4
    top, bottom = (
        fields.std.SelectEvery(2, parity, modify_duration=False).resize.Spline36(src_top=direction * shift)
        for parity, direction in ((0, 1), (1, -1))
    )
    both = vs.core.std.Interleave([top, bottom], modify_duration=False)
    woven = both.std.DoubleWeave(tff=True)
    for node in (fields, both, woven):
        node.std.SetVideoCache(mode=0)  # each frame is asked for once, and floats are large
    return woven.std.SelectEvery(2, 0, modify_duration=False)
