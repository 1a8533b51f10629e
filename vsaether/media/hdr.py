"""Metadata of high dynamic range: what an encoder is given of them, what is lost, and what cannot be shown without."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from av.sidedata.sidedata import Type as SideData

from vsaether.errors import MediaError

from .info import VideoInfo

STREAM_WIDE = frozenset(
    {
        SideData.MASTERING_DISPLAY_METADATA,
        SideData.CONTENT_LIGHT_LEVEL,
        SideData.DOVI_METADATA,
        SideData.DOVI_RPU_BUFFER,
        SideData.DYNAMIC_HDR_PLUS,
        SideData.DYNAMIC_HDR_VIVID,
        SideData.SEI_UNREGISTERED,
    }
)
"""Side data which encoders are told once, or not at all, whatever each frame has (SEI of users: but for udu_sei)."""

_STATIC = ("libx264", "libx265", "libsvtav1")
_DOLBY = ("dovi_conf", SideData.DOVI_METADATA, SideData.DOVI_RPU_BUFFER)
_OTHERS = {SideData.DYNAMIC_HDR_PLUS: "HDR10+", SideData.DYNAMIC_HDR_VIVID: "HDR Vivid"}
_BASES = {1: "HDR10", 2: "SDR", 4: "HLG", 6: "HDR10"}
"""What a Dolby Vision base layer is by itself, by dv_bl_signal_compatibility_id."""


def dynamic(path: Path, stream: Mapping[Any, bytes], frame: Iterable[object]) -> tuple[str, ...]:
    """Which dynamic metadata a video has, in words, from the side data of its stream and the kinds of its frames'.

    Raises MediaError for Dolby Vision whose base layer is no picture without them (profile 5): only a decoder of Dolby
    Vision makes one of it.
    """
    found = []
    configuration = stream.get("dovi_conf", b"")
    kinds = {*stream, *frame}
    if len(configuration) >= 8:  # as FFmpeg's AVDOVIDecoderConfigurationRecord
        profile, compatibility = configuration[2], configuration[7]
        if compatibility == 0 and profile not in (4, 7):
            raise MediaError(
                f"{path} is Dolby Vision of profile {profile}: without a decoder of Dolby Vision its colours are "
                "wrong, and there is none here; convert it to HDR10 first"
            )
        base = _BASES.get(compatibility)
        found.append(f"Dolby Vision (profile {profile}{f'; the base layer is {base}' if base else ''})")
    elif kinds.intersection(_DOLBY):
        found.append("Dolby Vision")
    found += [name for kind, name in _OTHERS.items() if kind in kinds]
    return tuple(found)


def losses(name: str, info: VideoInfo) -> list[str]:
    """What of a video's metadata an encoder is not given, as sentences."""
    found = []
    if info.dynamic:
        kept = (
            "the signal and HDR10's static metadata are" if _has_static(info) and name in _STATIC else "the signal is"
        )
        found.append(f"{' and '.join(info.dynamic)}: the metadata of single scenes are left out, {kept} kept")
    if _has_static(info) and name not in _STATIC:
        others = ", ".join(_STATIC)
        found.append(f"{name} cannot be given the mastering display and content light level: left out ({others} can)")
    return found


def _has_static(info: VideoInfo) -> bool:
    return bool(info.mastering or info.light_level)


def add_static(name: str, options: dict[str, str], info: VideoInfo) -> None:
    """Add static metadata (SMPTE ST 2086, CTA-861.3) to an encoder's options; some take them, as text."""
    if name not in _STATIC:
        return
    chroma, light = (1, 1) if name == "libsvtav1" else (50000, 10000)
    digits = "{:.6g}" if name == "libsvtav1" else "{:.0f}"
    found = []
    if info.mastering and len(info.mastering) >= 88:
        numbers = struct.unpack("=22i", info.mastering[:88])
        ratios = [a / b if b else 0 for a, b in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]
        if numbers[20] and numbers[21]:
            red, green, blue, white = (
                ",".join(digits.format(ratio * chroma) for ratio in ratios[at : at + 2]) for at in (0, 2, 4, 6)
            )
            lowest, highest = (digits.format(ratio * light) for ratio in ratios[8:10])
            key = "master-display" if name == "libx265" else "mastering-display"
            found.append(f"{key}=G({green})B({blue})R({red})WP({white})L({highest},{lowest})")
    if info.light_level and len(info.light_level) >= 8:
        most, average = struct.unpack("=2I", info.light_level[:8])
        key = {"libx264": "cll", "libx265": "max-cll", "libsvtav1": "content-light"}[name]
        found.append(f"{key}={most},{average}")
    key = f"{name.removeprefix('lib')}-params"
    if found:
        options[key] = ":".join([*([options[key]] if key in options else []), *found])
