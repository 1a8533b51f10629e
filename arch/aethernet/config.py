"""The configuration: sizes and options, and how a state dict gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from torch import Tensor

from .. import keys
from ..errors import CheckpointError
from ..layers import Gate, Norm, tail_radius
from ..upscaler import Config, Fused

Tail = Literal["conv", "direct"]


# Sizes of the named variants: embed_dim, depths, hidden channels, lk_kernel, sk_kernel.
SIZES: dict[str, tuple[int, tuple[int, ...], int, int, int]] = {
    "aether_small": (96, (4, 4, 4, 4), 192, 11, 3),
    "aether_medium": (128, (6,) * 6, 256, 11, 3),
    "aether_large": (180, (8,) * 8, 450, 13, 3),
}


@dataclasses.dataclass(frozen=True)
class AetherNetConfig(Config):
    """An AetherNet of the first public layout, with this project's options.

    `fused` is "none" (training branches), "kernel" (the public fused layout: one depthwise kernel) or "full"
    (`arch.fuse`: every affine folded, gate projections merged, only plain convolutions left).
    `border` is the number of pixels by which pictures are continued (see `Upscaler`).
    `img_range` is not stored in checkpoints; it is 1.0 unless the caller says otherwise.
    """

    body: ClassVar[str] = "layers."
    forms: ClassVar[tuple[frozenset[str], ...]] = keys.gated_forms("layers.")
    options: ClassVar[tuple[str, ...]] = ("norm", "gate", "deployed_kernel", "image_residual", "tail", "border")

    embed_dim: int
    depths: tuple[int, ...]
    hidden: int
    lk_kernel: int = 11
    sk_kernel: int = 3
    scale: int = 2
    in_chans: int = 3
    norm: Norm = "layer"
    gate: Gate = "gelu"
    deployed_kernel: int | None = None
    image_residual: bool = False
    tail: Tail = "conv"
    border: int = 0
    img_range: float = 1.0
    fused: Fused = "none"

    @property
    def variant(self) -> str:
        """The named variant of this width and depth, or "custom"."""
        sizes = (self.embed_dim, self.depths, self.hidden)
        return next((name for name, size in SIZES.items() if size[:3] == sizes), "custom")

    @property
    def blocks(self) -> int:
        """See `Config.blocks`."""
        return sum(self.depths)

    @property
    def supports_half(self) -> bool:
        """Behind a batch norm: its clamp bounds what the gated nets multiply (see `Config.supports_half`)."""
        return self.norm == "batch"

    @property
    def receptive_radius(self) -> int:
        """See `Config.receptive_radius`; with a deployed kernel, the reach after the window has been annealed."""
        radius = 2 + self.blocks * ((self.deployed_kernel or self.lk_kernel) // 2)
        if self.tail == "direct":
            return radius + 1
        return radius + 1 + tail_radius(self.scale)  # conv_before_upsample, and what follows it

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """See `Config.from_state`."""
        embed_dim, in_chans, _, _ = keys.shape_of(state, "conv_first.weight")
        depths = keys.depths(state, cls.body)
        last = keys.shape_of(state, "conv_last.weight")
        fused = keys.fused_form(state, cls.body)
        hidden, lk, sk = keys.gated_sizes(state, cls.body, fused, "fc1_gate")
        if fused == "full":
            norm = "layer" if keys.any_key(state, cls.body, ".norm.eps") else "batch"
        else:
            norm = "batch" if keys.any_key(state, cls.body, ".norm.running_mean") else "layer"
        direct = not any(k.startswith(("conv_before_upsample.", "upsample.")) for k in state)
        if direct:
            scale = keys.direct_scale(last[0], in_chans)
        else:
            scale = 1
            for step in keys.steps(state, "upsample."):
                out, inner, _, _ = keys.shape_of(state, f"{step}.weight")
                scale *= keys.integer_root(out // inner, step)
            if last[0] != in_chans:
                raise CheckpointError(f"conv_last gives {last[0]} channels and conv_first takes {in_chans}.")
        return cls(
            embed_dim=embed_dim,
            depths=depths,
            hidden=hidden,
            lk_kernel=lk,
            sk_kernel=sk,
            scale=scale,
            in_chans=in_chans,
            norm=norm,
            gate="relu" if keys.any_key(state, cls.body, ".ffn.relu_gate") else "gelu",
            deployed_kernel=_deployed_kernel(state) if fused == "none" else None,
            image_residual="image_residual" in state,
            tail="direct" if direct else "conv",
            border=keys.border(state),
            fused=fused,
        )


def _deployed_kernel(state: Mapping[str, Tensor]) -> int | None:
    """The window's size, which must be one and the same in all blocks."""
    windows = {k: v.tolist() for k, v in state.items() if k.startswith("layers.") and k.endswith(".conv.window")}
    sizes = {v[0] if isinstance(v, list) and len(v) == 2 else None for v in windows.values()}
    if not sizes:
        return None
    size = sizes.pop()
    if sizes or not isinstance(size, float) or not size.is_integer():
        raise CheckpointError(f"mixed or damaged AetherNet checkpoint: its windows are {windows}.")
    return int(size)
