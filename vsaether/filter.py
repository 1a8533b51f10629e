"""The filter."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import builtins
import functools
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import vapoursynth as vs

from . import alpha, backends, colour, engines, fields, memory
from . import reuse as reusing
from .backends.half import as_float
from .errors import AetherError, ArgumentError, ClipError
from .inference import Inference
from .sizing import Sizing

FILTER = "aether.Upscale"

PROPERTIES = ("_Matrix", "_Range", "_Transfer", "_Primaries", "_ChromaLocation", "_FieldBased")
"""The frame properties which decide what is done; each is one whole number."""


def upscale(
    clip: vs.VideoNode,
    engine: str | os.PathLike[str] = "small_2x_int8",
    *,
    backend: str | backends.Backend = "auto",
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] | None = None,
    num_streams: int = backends.NUM_STREAMS,
    device_id: int = 0,
    matrix: int | str | None = None,
    range: int | str | None = None,
    dither_type: str | None = None,
    dither: str | None = None,
    reuse: bool = True,
    width: int | None = None,
    height: int | None = None,
) -> vs.VideoNode:
    """Upscale a clip with an AetherNet engine. ``core.aether.Upscale`` is the same filter.

    Any constant clip goes: GRAY, YUV (subsampled up to 4 times) or RGB of 8 to 16 bit integer, half or float. The
    result has the same format at the engine's scale times the size, or at the size that is asked for, the same number
    of frames, and the same frame properties; colour, alpha (``_Alpha``, of the frames which have it) and interlacing
    (``_FieldBased``) are those of the source. Whether all frames are upscaled as fields, and the guesses about untagged
    colour (see vsaether.colour) are decided by frame 0. Colours are clamped to [0, 1] in RGB before they reach the
    engine.

    Args:
        clip: the clip.
        engine: an engine's name, ``<preset>_<precision>``, or the path of an ONNX file of ours. ``<preset>`` alone
            is the precision that is the backend's fastest, which is logged.
        backend: "auto" (the first that can run the engine here), the name of one (``vsaether engines`` lists them),
            with options where it has any ("native:threads=4", "ov:device=GPU"), or one with its own options, such as
            ``vsaether.backends.OpenVINO(num_streams=4)``.
        tile: tile size in pixels of the source (of one field, where it is interlaced), overlaps included; one number,
            or horizontal and vertical. Default: the whole frame where memory allows, else the tiles which make the
            least work of those which do.
        overlap: pixels of the source which are computed beyond a tile's share on each side; default: as many as the
            engine sees, so that no seam can show. Fewer are faster, and not seamless.
        num_streams: inferences at the same time, which share the memory there is for tiles ("native" works on one
            frame with all cores).
        device_id: the device of the backend; CPUs have only number 0.
        matrix: matrix of a YUV clip where its ``_Matrix`` is wrong: a number as in H.273, or its name in VapourSynth's
            resize, such as "709".
        range: 0 or "limited", 1 or "full", where the clip's ``_Range`` is wrong.
        dither_type: "none", "ordered" (the default), "random" or "error_diffusion", for integer results.
        dither: the older name of dither_type.
        reuse: do not compute again what repeats: frames and tiles which equal earlier ones, and on the backend
            "native" the parts of a frame that have not changed. The result is the same, bit for bit, in any order of
            frames (see vsaether.reuse).
        width: of the result, and its height: of one the other follows, so that the picture keeps its shape. The
            picture goes through the network once, or twice if that makes it too small, and then through Spline36 (in
            RGB as the clip's transfer has it). Default: the engine's scale times the size.

    Raises:
        vapoursynth.Error: the clip or an argument is not allowed, or the engine or backend cannot be used; it says
            which, and what to do.
    """
    try:
        if dither is not None and dither_type is not None:
            raise ArgumentError("dither is the older name of dither_type; give one of them")
        dither = dither_type or dither or "ordered"
        return _upscale(
            clip, engine, backend, tile, overlap, num_streams, device_id, matrix, range, dither, reuse, width, height
        )
    except vs.Error as error:
        kind = type(error) if isinstance(error, AetherError) else AetherError
        raise kind(f"{FILTER}: {error}") from error


def _upscale(
    clip: vs.VideoNode,
    engine_name: str | os.PathLike[str],
    backend_name: str | backends.Backend,
    tile: int | Sequence[int] | None,
    overlap: int | Sequence[int] | None,
    num_streams: int,
    device_id: int,
    matrix: int | str | None,
    range: int | str | None,
    dither: str,
    reuse: bool,
    width: int | None,
    height: int | None,
) -> vs.VideoNode:
    _check_clip(clip)
    if dither not in colour.DITHERS:
        raise ArgumentError(f"dither_type is {dither!r}; it must be one of {', '.join(colour.DITHERS)}")
    tile = _pair("tile", tile, 1)
    overlap = _pair("overlap", overlap, 0)
    backend, engine = backends.select(backend_name, engine_name, num_streams=num_streams, device_id=device_id)
    if engines.is_preset(engine_name):
        _inform(f"{FILTER}: {engine_name} is {engine.name} with the backend {backend.name}")
    if note := backend.note(engine.precision):
        _warn(f"{FILTER}: {note}")

    with clip.get_frame(0) as frame:
        props = dict(frame.props)
        alpha.check(frame)
    _check_props(props)
    source = colour.describe(clip.format, clip.width, clip.height, props, matrix=matrix, range=range)
    interlaced = fields.is_interlaced(clip, props)
    units = 1 << clip.format.subsampling_w, (1 << clip.format.subsampling_h) << interlaced
    sizing = Sizing(engine.scale, width, height, units=units)
    size = _size(clip, sizing, interlaced)
    if reuse and not reusing.available():
        _warn(f"{FILTER}: the native plugin is missing or of another version, so all is computed, also what repeats")
        reuse = False
    kinds = 4 if interlaced else 2  # picture and alpha, of both fields
    inference = Inference(backend, engine, tile, overlap, reuse, kinds, lambda text: _warn(f"{FILTER}: {text}"))

    def picture(rgb: vs.VideoNode) -> vs.VideoNode:
        for _ in itertools.repeat(None, sizing.passes(clip.width, clip.height)):
            rgb = fields.upscale_fields(rgb, engine.scale, inference.run) if interlaced else inference.run(rgb)
        return rgb if (rgb.width, rgb.height) == size else as_float(rgb).resize.Spline36(*size)

    def finish(rgb: vs.VideoNode) -> vs.VideoNode:
        result = colour.from_rgb(rgb, source, dither)
        if interlaced:
            result = result.std.CopyFrameProps(clip, props=["_FieldBased"])
        if not reuse:
            return result
        passes = sizing.passes(clip.width, clip.height)
        pixels = sum(clip.width * clip.height * engine.scale ** (2 * done) for done in builtins.range(passes))
        return reusing.finish_once(clip, result, (*PROPERTIES, "_Field"), pixels)

    return alpha.upscale_with_alpha(clip, colour.to_rgb(clip, source), finish, dither, picture, memory.tidy)


@functools.cache
def _warn(text: str) -> None:
    """Once a process: a script may call the filter for every scene."""
    vs.core.log_message(vs.MESSAGE_TYPE_WARNING, text)


@functools.cache
def _inform(text: str) -> None:
    """Once a process too."""
    vs.core.log_message(vs.MESSAGE_TYPE_INFORMATION, text)


def _check_clip(clip: vs.VideoNode) -> None:
    if not isinstance(clip, vs.VideoNode):
        raise ClipError(f"the clip is of type {type(clip).__name__}; it must be a vapoursynth.VideoNode")
    if clip.format.color_family == vs.UNDEFINED or not clip.width or not clip.height:
        raise ClipError("the clip's format or size varies; make it constant, with resize, or split it with std.Trim")
    if clip.format.color_family not in (vs.GRAY, vs.YUV, vs.RGB):
        raise ClipError(f"the format {clip.format.name} is not supported; convert it to GRAY, YUV or RGB with resize")
    if clip.format.sample_type == vs.INTEGER and clip.format.bits_per_sample > 16:
        raise ClipError(f"{clip.format.name} has more than 16 bits a sample; convert it to 16 bits or to float")


def _size(clip: vs.VideoNode, sizing: Sizing, interlaced: bool) -> tuple[int, int]:
    """The result's size, which the clip's format must be able to hold."""
    size = sizing.of(clip.width, clip.height)
    for name, value, unit in zip(("width", "height"), size, sizing.units, strict=True):
        if value % unit:
            of_fields = " of two fields" if interlaced else ""
            raise ArgumentError(f"{name} is {value}; in {clip.format.name}{of_fields} it must be divisible by {unit}")
    return size


def _check_props(props: Mapping[str, Any]) -> None:
    for key in PROPERTIES:
        if not isinstance(props.get(key, 0), int):
            raise ClipError(
                f"frame 0 has {key}={props[key]!r}; it must be one whole number; set it with std.SetFrameProps, or "
                "remove it with std.RemoveFrameProps"
            )


def _pair(name: str, value: int | Sequence[int] | None, least: int) -> tuple[int, int] | None:
    """(horizontal, vertical) of an argument which is one whole number or two."""
    if value is None:
        return None
    numbers = list(value) if isinstance(value, Iterable) else [value]
    if len(numbers) not in (1, 2) or any(not isinstance(number, Integral) or number < least for number in numbers):
        raise ArgumentError(
            f"{name} is {value!r}; it must be one whole number or two (horizontal, vertical) of at least {least}"
        )
    return numbers[0], numbers[-1]
