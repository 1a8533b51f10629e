"""Reading sizes out of a state dict: shapes and counts, or a sentence that says which key is wrong."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from .errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .config import Fused


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
