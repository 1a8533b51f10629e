"""Alpha: the ``_Alpha`` frame property, a full-range GRAY frame of the picture's size, upscaled by the same engine."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from collections.abc import Callable

import vapoursynth as vs

from . import colour
from .errors import ClipError

PROPERTY = "_Alpha"


def run(
    clip: vs.VideoNode, rgb: vs.VideoNode, dither: str, infer: Callable[[vs.VideoNode], vs.VideoNode]
) -> tuple[vs.VideoNode, vs.VideoNode]:
    """Pass rgb (RGBS) and the clip's alpha through one call of infer: the result (RGBS), and the alpha's in its format.

    Picture and alpha take turns in one clip, so that the engine is loaded once.
    """
    mask = clip.std.PropToClip(PROPERTY)
    if (mask.width, mask.height) != (clip.width, clip.height) or mask.format.color_family != vs.GRAY:
        raise ClipError(
            f"{PROPERTY} is {mask.width}x{mask.height} {mask.format.name}; it must be GRAY and have the picture's size "
            f"{clip.width}x{clip.height}; resize it, or remove it with std.RemoveFrameProps"
        )
    source = colour.describe(mask, {}, None, colour.FULL)
    both = infer(vs.core.std.Interleave([rgb, colour.to_rgb(mask, source)], modify_duration=False))
    picture, opacity = (both.std.SelectEvery(2, i, modify_duration=False) for i in (0, 1))
    return picture, colour.from_rgb(opacity, source, dither)
