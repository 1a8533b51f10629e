"""What a state dict describes: frozen configurations that build the matching module."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from .layers import Gate, Norm

if TYPE_CHECKING:
    from .fused import FusedAetherNet
    from .later import AetherNetLater
    from .network import AetherNet
    from .tiny import AetherTiny

SCALES = (1, 2, 3, 4, 8)
Tail = Literal["conv", "direct"]
Fused = Literal["none", "kernel", "full"]

# Shapes of the named variants (embed_dim, depths, hidden channels, lk_kernel, sk_kernel).
VARIANTS: dict[str, tuple[int, tuple[int, ...], int, int, int]] = {
    "aether_small": (96, (4, 4, 4, 4), 192, 11, 3),
    "aether_medium": (128, (6,) * 6, 256, 11, 3),
    "aether_large": (180, (8,) * 8, 450, 13, 3),
}

# Names of the later layout's presets, by embed_dim and depths.
LATER_VARIANTS = {
    (64, (2,) * 4): "aether_later_mobile",
    (64, (3,) * 3): "aether_later_tiny",
    (96, (4,) * 4): "aether_later_small",
    (128, (6,) * 4): "aether_later_medium",
    (180, (8,) * 5): "aether_later_large",
    (192, (8,) * 5): "aether_later_pro",
    (256, (12,) * 5): "aether_later_extreme",
}


@dataclass(frozen=True)
class AetherNetConfig:
    """An AetherNet of the first public layout, with this project's options.

    `fused` is "none" (training branches), "kernel" (the public fused layout: one depthwise kernel) or "full"
    (`arch.fuse`: every affine folded, gate projections merged, only plain convolutions left).
    `border` is the number of pixels by which pictures are continued (see `arch.base.Upscaler`).
    `img_range` is not stored in checkpoints; it is 1.0 unless the caller says otherwise.
    """

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
        for name, (dim, depths, hidden, _, _) in VARIANTS.items():
            if (dim, depths, hidden) == (self.embed_dim, self.depths, self.hidden):
                return name
        return "custom"

    @property
    def out_chans(self) -> int:
        """Channels of the output image: those of the input."""
        return self.in_chans

    @property
    def receptive_radius(self) -> int:
        """An output pixel depends on no LR pixel farther than this (max-norm, LR pixels, rounded up).

        With a deployed kernel, this is the reach after the window has been annealed.
        """
        radius = 2 + sum(self.depths) * ((self.deployed_kernel or self.lk_kernel) // 2)
        if self.tail == "direct":
            return radius + 1
        return radius + 1 + _tail_radius(self.scale)  # conv_before_upsample, and what follows it

    def build(self) -> AetherNet | FusedAetherNet:
        """A new module of this configuration, with fresh weights."""
        from .fused import FusedAetherNet
        from .network import AetherNet

        return FusedAetherNet(self) if self.fused == "full" else AetherNet.from_config(self)


@dataclass(frozen=True)
class AetherTinyConfig:
    """The real-time variant: `depth` dense 3x3 convolutions of `embed_dim` channels, ReLU, image residual.

    `expand` is the width factor of the training branches; it is 0 where `fused`.
    """

    variant: ClassVar[str] = "aether_tiny"
    embed_dim: int = 48
    depth: int = 9
    expand: int = 2
    scale: int = 2
    in_chans: int = 3
    border: int = 0
    fused: Literal["none", "full"] = "none"

    @property
    def out_chans(self) -> int:
        """Channels of the output image: those of the input."""
        return self.in_chans

    @property
    def receptive_radius(self) -> int:
        """An output pixel depends on no LR pixel farther than this (max-norm, LR pixels)."""
        return self.depth

    def build(self) -> AetherTiny:
        """A new module of this configuration, with fresh weights."""
        from .tiny import AetherTiny

        return AetherTiny(self)


@dataclass(frozen=True)
class AetherNetLaterConfig:
    """An AetherNet of the later public layout (`stages.*`, version 3.1.1): for inference and export.

    norm: "batch" (the public code calls it "deployment") or "layer".
    `res_scale` and `img_range` are not stored in checkpoints: the first follows from the width (0.2 up to 64
    channels, else 0.1, as in all public presets), the second is 1.0 unless the caller says otherwise.
    """

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
        return LATER_VARIANTS.get((self.embed_dim, self.depths), "custom")

    @property
    def out_chans(self) -> int:
        """Channels of the output image: those of the input."""
        return self.in_chans

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
        """LR pixels, or None: channel attention pools the whole image, so no tile equals the whole frame."""
        if self.channel_attention:
            return None
        per_block = self.lk_kernel // 2 + (3 if self.spatial_attention else 0)
        # conv_first, conv_after_body, conv_before_upsample; then the upsampler, whose first step is at LR size.
        lead = 3 + sum(self.depths) * per_block + (1 if self.scale == 1 else 0)
        return lead + _tail_radius(self.scale)

    def build(self) -> AetherNetLater:
        """A new module of this configuration, with fresh weights."""
        from .later import AetherNetLater

        return AetherNetLater(self)


Config = AetherNetConfig | AetherTinyConfig | AetherNetLaterConfig


def upsample_factors(scale: int) -> tuple[int, ...]:
    """PixelShuffle factors of the convolutional tail: 1 -> (), 2 -> (2,), 3 -> (3,), 4 -> (2, 2), 8 -> (2, 2, 2)."""
    if scale not in SCALES:
        raise ValueError(f"scale is {scale}; allowed are {', '.join(map(str, SCALES))}.")
    return (3,) if scale == 3 else (2,) * (scale.bit_length() - 1)


def _tail_radius(scale: int) -> int:
    """Reach of the convolutional tail behind conv_before_upsample, in LR pixels, rounded up."""
    reach, size = 0.0, 1
    for factor in upsample_factors(scale):
        reach += 1 / size
        size *= factor
    return math.ceil(reach + 1 / size)
