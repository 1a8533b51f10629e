"""The configuration: sizes and options, and how a state dict gives them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

from torch import Tensor

from .. import keys
from ..errors import CheckpointError
from ..layers import Norm, tail_radius, upsample_factors
from ..upscaler import Config, Fused

VERSION = [3, 1, 1]  # of the public code; the others share its keys, but not its forward pass


# Names of the public presets, by embed_dim and depths.
VARIANTS = {
    (64, (2,) * 4): "aether_later_mobile",
    (64, (3,) * 3): "aether_later_tiny",
    (96, (4,) * 4): "aether_later_small",
    (128, (6,) * 4): "aether_later_medium",
    (180, (8,) * 5): "aether_later_large",
    (192, (8,) * 5): "aether_later_pro",
    (256, (12,) * 5): "aether_later_extreme",
}


@dataclasses.dataclass(frozen=True)
class AetherNetLaterConfig(Config):
    """An AetherNet of the later public layout (`stages.*`, version 3.1.1): for inference and export.

    norm: "batch" (the public code calls it "deployment") or "layer".
    `res_scale` and `img_range` are not stored in checkpoints: the first follows from the width (0.2 up to 64
    channels, else 0.1, as in all public presets), the second is 1.0 unless the caller says otherwise.
    """

    body: ClassVar[str] = "stages."
    forms: ClassVar[tuple[frozenset[str], ...]] = keys.gated_forms("stages.")
    extras: ClassVar[frozenset[str]] = frozenset(("pt_version", "model_version"))
    options: ClassVar[tuple[str, ...]] = ("norm", "channel_attention", "spatial_attention")

    embed_dim: int
    depths: tuple[int, ...]
    hidden: int
    lk_kernel: int = 13
    sk_kernel: int = 5
    scale: int = 2
    in_chans: int = 3
    norm: Norm = "batch"
    channel_attention: bool = False
    spatial_attention: bool = False
    img_range: float = 1.0
    fused: Fused = "none"

    @property
    def variant(self) -> str:
        """The named preset of this width and depth in the later layout, or "custom"."""
        return VARIANTS.get((self.embed_dim, self.depths), "custom")

    @property
    def blocks(self) -> int:
        """See `Config.blocks`."""
        return sum(self.depths)

    @property
    def res_scale(self) -> float:
        """Scale of every block's residual branch."""
        return 0.2 if self.embed_dim <= 64 else 0.1

    @property
    def upsample_plan(self) -> tuple[tuple[int, int, int], ...]:
        """(channels in, channels out, PixelShuffle factor) of each upsampling step; one of factor 1 at scale 1."""
        factors = upsample_factors(self.scale) or (1,)
        plan, inner = [], self.embed_dim
        for i, factor in enumerate(factors):
            last = i == len(factors) - 1
            outer = max(32, self.embed_dim // max(1, self.scale // 2) & ~1) if last else inner // 2
            plan.append((inner, outer, factor))
            inner = outer
        return tuple(plan)

    @property
    def receptive_radius(self) -> int | None:
        """See `Config.receptive_radius`: channel attention pools the whole image."""
        if self.channel_attention:
            return None
        per_block = self.lk_kernel // 2 + (3 if self.spatial_attention else 0)
        # conv_first, conv_after_body, conv_before_upsample; then the upsampler, whose first step is at LR size.
        lead = 3 + self.blocks * per_block + (1 if self.scale == 1 else 0)
        return lead + tail_radius(self.scale)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """See `Config.from_state`. Other versions of the public code, which share the keys, are refused."""
        if "model_version" in state and state["model_version"].tolist() != VERSION:
            raise CheckpointError(
                f"this checkpoint is of version {state['model_version'].tolist()} of the public code, whose forward "
                f"pass is another one; of the stages.* layout, version {VERSION} is supported."
            )
        embed_dim, in_chans, _, _ = keys.shape_of(state, "conv_first.weight")
        fused = keys.fused_form(state, cls.body)
        hidden, lk, sk = keys.gated_sizes(state, cls.body, fused, "conv_gate")
        if fused == "full":
            layer = keys.any_key(state, cls.body, ".norm.eps")
        else:
            layer = "norm.weight" in state and state["norm.weight"].ndim == 1
        return cls(
            embed_dim=embed_dim,
            depths=keys.depths(state, cls.body),
            hidden=hidden,
            lk_kernel=lk,
            sk_kernel=sk,
            scale=_scale(state),
            in_chans=in_chans,
            norm="layer" if layer else "batch",
            channel_attention=keys.any_key(state, cls.body, ".channel_attn.fc.0.weight"),
            spatial_attention=keys.any_key(state, cls.body, ".spatial_attn.conv.weight"),
            fused=fused,
        )


def _scale(state: Mapping[str, Tensor]) -> int:
    """The scale that the upsampler's shapes give, which `scale_tensor` must confirm."""
    steps = keys.steps(state, "upsample.blocks.")
    if len(steps) > 1:
        scale = 2 ** len(steps)
    else:
        name = f"{steps[0] if steps else 'upsample.blocks.0'}.weight"
        outer, inner = keys.shape_of(state, name)[0], keys.shape_of(state, "conv_last.weight")[1]
        scale = keys.integer_root(outer // inner, name)
    stored = state.get("scale_tensor")
    if stored is None or stored.numel() != 1:
        raise CheckpointError("truncated AetherNet checkpoint: scale_tensor is missing or no single number.")
    if stored.item() != scale:
        raise CheckpointError(
            f"mixed AetherNet checkpoint: scale_tensor is {stored.item()}, "
            f"but the shapes of its upsampler are those of scale {scale}."
        )
    return scale
