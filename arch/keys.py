"""Reading a state dict: sizes from shapes and counts, or a sentence that says which key is wrong; quantiser keys."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from .errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .upscaler import Fused

QUANTIZER_KEY = re.compile(r"\.?_?(?:input|weight|output)_quantizer\.")
OBSERVER_KEY = re.compile(r"(?:^|\.)(?:\w+_fake_quant|activation_post_process\w*)\.")  # torch.ao's


def split_ranges(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separate a quantisation-aware checkpoint into weights and quantiser buffers.

    The second dict holds every `*_quantizer.*` entry (`_amax` and whatever else modelopt or pytorch-quantization
    left there) and what torch.ao's observers saw (`*.weight_fake_quant.*`, `*.activation_post_process.*`), under its
    full name; both are empty dicts where there is nothing.
    """
    ranges = {k: v for k, v in state_dict.items() if QUANTIZER_KEY.search(k) or is_observed(k)}
    return {k: v for k, v in state_dict.items() if k not in ranges}, ranges


def is_observed(key: str) -> bool:
    """Whether a key belongs to an observer of torch.ao: of a weight, or of a module's output."""
    return OBSERVER_KEY.search(key) is not None


def shape_of(state: Mapping[str, Tensor], key: str, ndim: int = 4) -> tuple[int, ...]:
    """The shape of `state[key]`, which must have `ndim` dimensions, none of them empty."""
    if key not in state:
        raise CheckpointError(f"truncated or mixed AetherNet checkpoint: {key} is missing.")
    shape = tuple(state[key].shape)
    if len(shape) != ndim or 0 in shape:
        raise CheckpointError(f"{key} has shape {shape}; {ndim} dimensions, none of them 0, were expected.")
    return shape


def depths(state: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    """How many blocks each group holds: keys `<prefix><group>.<block>.*`, numbered from 0 without a gap."""
    return tuple(count(state, f"{prefix}{g}.") for g in range(count(state, prefix)))


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many indices stand right behind `prefix`, numbered from 0 without a gap."""
    found = {int(m[1]) for k in state if (m := re.match(re.escape(prefix) + r"(\d+)\.", k))}
    gap = next((i for i in range(len(found)) if i not in found), None)
    if not found or gap is not None:
        raise CheckpointError(f"truncated AetherNet checkpoint: {prefix}{gap or 0}.* is missing.")
    return len(found)


def fused_form(state: Mapping[str, Tensor], prefix: str) -> Fused:
    """Which form the blocks under `prefix` have; a dict with more than one is refused.

    "full" has merged gate projections (ffn.fc1), "kernel" conv.fused_conv, "none" conv.lk_conv.
    """
    marks: dict[Fused, str] = {
        "full": ".ffn.fc1.weight",
        "kernel": ".conv.fused_conv.weight",
        "none": ".conv.lk_conv.weight",
    }
    found: dict[Fused, str] = {}
    for form, end in marks.items():
        key = next((k for k in state if k.startswith(prefix) and k.endswith(end)), None)
        if key is not None:
            found[form] = key
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise CheckpointError(f"mixed AetherNet checkpoint: {first} is of a fused form and {second} is not.")
    if not found:
        raise CheckpointError(f"truncated AetherNet checkpoint: {prefix}0.0.conv.* is missing.")
    return next(iter(found))


def border(state: Mapping[str, Tensor]) -> int:
    """The value of the marker `border`, 0 where there is none."""
    if "border" not in state:
        return 0
    value = state["border"]
    if value.ndim or value.is_floating_point() or value.item() < 1:
        raise CheckpointError(f"border is {value.tolist()}; a single positive integer was expected.")
    return int(value.item())


def integer_root(value: int, what: str) -> int:
    """The square root of `value`, which must be a square (PixelShuffle's channels)."""
    root = math.isqrt(value)
    if root * root != value:
        raise CheckpointError(f"{what}: {value} output channels per image channel are no square of a scale.")
    return root


def gated_forms(body: str) -> tuple[frozenset[str], ...]:
    """Of a gated net whose blocks lie under `body`: keys of each of its three forms (see `Config.forms`)."""
    ends = ("conv_first.weight", "conv_after_body.weight", "conv_last.weight")
    marks = (
        ("conv.lk_conv.weight",),
        ("conv.fused_conv.weight",),
        ("conv.weight", "ffn.fc1.weight", "ffn.fc2.weight"),
    )
    return tuple(frozenset((*ends, *(f"{body}0.0.{mark}" for mark in form))) for form in marks)


def gated_sizes(state: Mapping[str, Tensor], body: str, fused: Fused, gate: str) -> tuple[int, int, int]:
    """Hidden channels, large and small kernel of a gated net; `gate` is the name of its unfused gate's projection.

    The small kernel of a fused dict is unknowable, and irrelevant: 3, or less where the large one is.
    """
    first = f"{body}0.0."
    if fused == "full":
        hidden = shape_of(state, first + "ffn.fc1.weight")[0] // 2
        lk = shape_of(state, first + "conv.weight")[-1]
        return hidden, lk, min(3, lk)
    key = f"{first}ffn.{gate}.weight"
    hidden = shape_of(state, key, 2 if gate == "fc1_gate" else 4)[0]
    if fused == "kernel":
        lk = shape_of(state, first + "conv.fused_conv.weight")[-1]
        return hidden, lk, min(3, lk)
    lk = shape_of(state, first + "conv.lk_conv.weight")[-1]
    return hidden, lk, shape_of(state, first + "conv.sk_conv.weight")[-1]


def steps(state: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Names of the upsampler's convolutions, in order; one with a missing tensor counts too."""
    found = {int(m[1]): m[0] for k in state if (m := re.match(re.escape(prefix) + r"(\d+)", k))}
    return [found[i] for i in sorted(found)]


def any_key(state: Mapping[str, Tensor], prefix: str, end: str) -> bool:
    """Whether any block holds this key. If another lacks it, the comparison with the built module names that one."""
    return any(k.startswith(prefix) and k.endswith(end) for k in state)


def direct_scale(out: int, in_chans: int) -> int:
    """The scale of a net whose conv_last, with `out` channels, stands before one PixelShuffle."""
    if out % in_chans:
        raise CheckpointError(f"conv_last has {out} output channels, no multiple of {in_chans}.")
    return integer_root(out // in_chans, "conv_last")
