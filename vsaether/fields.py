"""Interlaced frames: each field is upscaled for itself, and the fields are woven again.

An engine sees rows as neighbours which in an interlaced frame are taken at different times. So the fields are taken
apart, upscaled, and put together: the result is interlaced as the source is, with as many frames.

The rows of an upscaled field are centred on the field's own grid, which is not where the larger frame has its fields:
with scale s, rows of the top field are needed (s - 1) / 4 of their distance further down, those of the bottom field
as far further up. A resampler moves them there.
"""

from collections.abc import Callable, Mapping
from typing import Any

import vapoursynth as vs

PROGRESSIVE, BOTTOM_FIRST, TOP_FIRST = 0, 1, 2


def order(props: Mapping[str, Any]) -> int:
    """The field order by frame 0's ``_FieldBased``: PROGRESSIVE, BOTTOM_FIRST or TOP_FIRST."""
    return int(props.get("_FieldBased", PROGRESSIVE))


def run(rgb: vs.VideoNode, scale: int, infer: Callable[[vs.VideoNode], vs.VideoNode]) -> vs.VideoNode:
    """Pass the fields of RGBS frames of even height through infer, which multiplies their size by scale.

    Which field comes first in time changes nothing here: all frames are treated as top field first.
    """
    fields = infer(rgb.std.SetFieldBased(TOP_FIRST).std.SeparateFields(modify_duration=False))
    shift = (scale - 1) / 4
    top, bottom = (
        fields.std.SelectEvery(2, parity, modify_duration=False)
        .std.RemoveFrameProps("_Field")
        .resize.Spline36(src_top=direction * shift)
        for parity, direction in ((0, 1), (1, -1))
    )
    woven = vs.core.std.Interleave([top, bottom], modify_duration=False).std.DoubleWeave(tff=True)
    return woven.std.SelectEvery(2, 0, modify_duration=False).std.SetFieldBased(TOP_FIRST)
