"""Alpha: the ``_Alpha`` frame property, a full-range GRAY frame of the picture's size, upscaled by the same engine.

Every frame may have one or not, and in a format of its own: a frame comes out with alpha where it came in with it.
"""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

from collections.abc import Callable

import vapoursynth as vs

from . import colour
from .errors import ClipError

PROPERTY = "_Alpha"


def check(frame: vs.VideoFrame) -> None:
    """Raise ClipError if a frame has alpha which does not belong to it."""
    mask = frame.props.get(PROPERTY)
    if mask is None:
        return
    if not isinstance(mask, vs.VideoFrame):
        raise ClipError(f"{PROPERTY} is of type {type(mask).__name__}; it must be a GRAY frame of the picture's size")
    if (mask.width, mask.height) != (frame.width, frame.height) or mask.format.color_family != vs.GRAY:
        raise ClipError(
            f"{PROPERTY} is {mask.width}x{mask.height} {mask.format.name}; it must be GRAY and have the picture's size "
            f"{frame.width}x{frame.height}; resize it, or remove it with std.RemoveFrameProps"
        )


def upscale_with_alpha(
    clip: vs.VideoNode,
    rgb: vs.VideoNode,
    finish: Callable[[vs.VideoNode], vs.VideoNode],
    dither: str,
    infer: Callable[[vs.VideoNode], vs.VideoNode],
    each: Callable[[], None],
) -> vs.VideoNode:
    """Pass rgb (RGBS) and the clip's alpha through one call of infer: the result, which finish makes of RGBS.

    Picture and alpha take turns in one clip, so that the engine is loaded once; of a frame without alpha only the
    picture is asked for. ``each`` is called for every frame.
    """
    mask = _masks(clip)
    source = _describe(vs.core.query_video_format(vs.GRAY, vs.INTEGER, 8))
    both = infer(vs.core.std.Interleave([rgb, colour.to_rgb(mask, source)], modify_duration=False))
    both.std.SetVideoCache(mode=0)  # each frame is asked for once; VapourSynth would keep 20 of them, in floats
    picture, opacity = (both.std.SelectEvery(2, i, modify_duration=False) for i in (0, 1))
    plain = finish(picture)
    made: dict[int, vs.VideoNode] = {}

    def choose(n: int, f: vs.VideoFrame) -> vs.VideoNode:
        each()
        given = f.props.get(PROPERTY)
        if given is None:
            return plain
        check(f)
        assert isinstance(given, vs.VideoFrame)
        if given.format.id not in made:
            made[given.format.id] = plain.std.ClipToProp(_finish(opacity, given.format, dither), PROPERTY)
        return made[given.format.id]

    return plain.std.FrameEval(choose, prop_src=clip, clip_src=[plain, opacity])


def _masks(clip: vs.VideoNode) -> vs.VideoNode:
    """The alpha of each frame, in its own format."""

    def mask(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        found = f.props.get(PROPERTY)
        check(f)
        assert isinstance(found, vs.VideoFrame)  # frames without are not asked for
        return found

    blank = clip.std.BlankClip(format=vs.GRAY8, keep=True, varformat=True)
    return blank.std.ModifyFrame(clip, mask)


def _finish(opacity: vs.VideoNode, mask: vs.VideoFormat, dither: str) -> vs.VideoNode:
    """RGBS as alpha of a format, within its limits. (Floats have none of their own, and engines overshoot.)"""
    if mask.sample_type == vs.INTEGER:
        return colour.from_rgb(opacity, _describe(mask), dither)
    whole = vs.core.query_video_format(vs.GRAY, vs.FLOAT, 32)
    limited = colour.from_rgb(opacity, _describe(whole), dither).std.Limiter(min=0, max=1)
    return limited if mask.id == whole.id else limited.resize.Point(format=mask.id)


def _describe(mask: vs.VideoFormat) -> colour.Colour:
    return colour.describe(mask, 16, 16, {}, range=colour.FULL)
