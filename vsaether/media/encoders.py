"""Which encoder writes what: defaults by container, quality, sample formats."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import av
import vapoursynth as vs
from av.codec.codec import find_best_pix_fmt_of_list

from vsaether.errors import MediaError
from vsaether.sizing import Sizing

from . import hdr
from .formats import Layout
from .info import VideoInfo

MUXERS = {
    ".mkv": "matroska",
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".webm": "webm",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
}

_DEFAULTS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "medium"},
    "libx265": {"crf": "20", "preset": "medium", "x265-params": "log-level=error"},
    "libsvtav1": {"crf": "28", "preset": "8"},
    "libvpx-vp9": {"crf": "24", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    "ffv1": {"level": "3", "slicecrc": "1"},
    "prores_ks": {"vendor": "apl0"},  # HQ, or 4444 by the sample format; some programs read Apple's alone
}
_SPECIAL = {"libvpx-vp9": ("yuva422p", "yuva444p", "gbrap"), "libx265": ("yuva420p", "yuva420p10le")}
"""Sample formats which an encoder offers, but takes only with ``strict=experimental``, or if it was built for them."""
_EVEN = ("libx264", "libx265", "libsvtav1")
_INTERLACED = ("libx264", "mpeg2video", "prores_ks", "prores", "dnxhd", "ffv1", "rawvideo", "v210")


@dataclass(frozen=True)
class Encoding:
    """What the user asks of the encoder; None is the default of the container and the encoder."""

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """An encoder ready to be opened: its name, FFmpeg's pix_fmt, its options, and what it cannot keep."""

    codec: str
    pix_fmt: str
    options: dict[str, str]
    interlaced: bool
    notices: list[str]


def choose(encoding: Encoding, suffix: str, info: VideoInfo, sizing: Sizing) -> Encoder:
    """The encoder for a source's video in the size that is asked for.

    Raises MediaError if there is none, or it does not do what is asked.
    """
    name = encoding.codec or _default(suffix, info)
    try:
        codec = av.Codec(name, "w")
    except ValueError as error:
        raise MediaError(f"there is no encoder {name!r}; usual ones: {', '.join(_DEFAULTS)}") from error
    if codec.type != "video" or not codec.video_formats:
        raise MediaError(f"{name} is not a video encoder")
    fields = info.interlaced and name in _INTERLACED
    if info.interlaced and not fields and not info.mixed:
        raise MediaError(
            f"the input is interlaced, and {name} codes progressive video only; make whole frames of it with "
            "--deinterlace flagged, or keep its fields with --codec libx264 and .mkv or .mp4"
        )
    pix_fmt, notices = _pix_fmt(codec, encoding.pix_fmt, info.layout)
    if info.interlaced and not fields:
        notices.append(f"{name} codes progressive video only: the parts which are interlaced are no longer marked so")
    width, height = sizing.of(info.width, info.height)
    across, down = (1 << sub for sub in Layout.of(pix_fmt).subsampling)
    if name in _EVEN and (width % across or height % down):
        raise MediaError(
            f"the output would be {width}x{height}, which {name} cannot code as {pix_fmt}; use --pix-fmt yuv444p, or "
            "--codec libvpx-vp9 or ffv1"
        )
    options = dict(_DEFAULTS.get(name, {}))
    known = {option.name for group in _option_sets(name) for option in group}
    for key, value in (("crf", encoding.crf), ("preset", encoding.preset)):
        if value is not None:
            if key not in known:
                raise MediaError(f"{name} has no {key}; give its own options with --encoder-options")
            options[key] = str(value)
    for key, value in encoding.options.items():
        if key not in known:
            raise MediaError(f"{name} has no option {key!r}")
        options[key] = f"{options[key]}:{value}" if key.endswith("-params") and key in options else value
    notices += hdr.losses(name, info)
    hdr.add_static(name, options, info)
    return Encoder(name, pix_fmt, options, fields, notices)


def _default(suffix: str, info: VideoInfo) -> str:
    if suffix == ".webm":
        deep = info.layout.bits > 8 and info.layout.subsampling == (1, 1)
        return "libsvtav1" if deep and not info.layout.alpha else "libvpx-vp9"
    return "libx265" if info.layout.bits > 8 and not info.interlaced else "libx264"


def _option_sets(name: str) -> tuple:
    known = av.CodecContext.create(name, "w").supported_options
    return known.generic, known.private


def _pix_fmt(codec: av.Codec, wanted: str | None, layout: Layout) -> tuple[str, list[str]]:
    assert codec.video_formats
    names = [fmt.name for fmt in codec.video_formats if not fmt.name.startswith("yuvj")]
    if wanted is not None:
        if wanted not in names:
            raise MediaError(f"{codec.name} does not take the pixel format {wanted}; it takes {', '.join(names)}")
        return wanted, []
    names = _usual(codec.name, names, layout)
    if layout.pix_fmt in names:
        return layout.pix_fmt, []
    alpha = layout.alpha and Layout.of(names[0]).alpha
    if layout.family == vs.RGB and not alpha and not any(av.VideoFormat(name).is_rgb for name in names):
        deep = "yuv420p10le" if layout.bits > 8 else "yuv420p"
        best = deep if deep in names else "yuv420p" if "yuv420p" in names else names[0]
    else:
        found, _ = find_best_pix_fmt_of_list(names, layout.pix_fmt, layout.alpha)
        best = found.name if found else names[0]
    return best, losses(layout, Layout.of(best), codec.name)


def _usual(codec: str, names: list[str], layout: Layout) -> list[str]:
    """The sample formats which a layout may become unasked: with alpha if it has alpha and any of them has."""
    usual = {name: held for name in names if (held := _layout(name)) and name not in _SPECIAL.get(codec, ())}
    if layout.bits < 32:  # half floats hold fewer bits than they seem to
        usual = {name: held for name, held in usual.items() if held.bits < 32}
    return [name for name, held in usual.items() if layout.alpha and held.alpha] or list(usual) or names


def _layout(pix_fmt: str) -> Layout | None:
    """The layout of a sample format, if it has one: a mosaic has none."""
    try:
        return Layout.of(pix_fmt)
    except MediaError:
        return None


def losses(source: Layout, target: Layout, codec: str) -> list[str]:
    """What of a layout another cannot hold, as sentences."""
    found = []
    if source.alpha and not target.alpha:
        others = "libvpx-vp9 in .webm, prores_ks in .mov or ffv1 in .mkv can"
        found.append(f"{codec} cannot hold the alpha channel: it is left out ({others})")
    if target.bits < source.bits:
        found.append(f"{codec} cannot hold {source.bits} bits: the output has {target.bits}")
    same = dataclasses.replace(source, alpha=target.alpha, bits=target.bits)
    if same != target and (source.family, source.subsampling) != (vs.GRAY, (0, 0)) and source.family != vs.GRAY:
        found.append(f"{codec} cannot hold {source.pix_fmt}: the output is {target.pix_fmt}")
    return found
