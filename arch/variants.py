"""The named variants. Each is its own function with its own signature, so that trainers can register it as it is."""

from __future__ import annotations

from .config import VARIANTS, AetherTinyConfig, Tail
from .layers import Gate, Norm
from .network import AetherNet
from .tiny import AetherTiny


def aether_tiny(
    scale: int = 2, *, in_chans: int = 3, embed_dim: int = 48, depth: int = 9, expand: int = 2, border: int = 0
) -> AetherTiny:
    """The real-time variant, made for int8: dense 3x3 convolutions, ReLU, image residual (see AetherTiny)."""
    return AetherTiny(
        AetherTinyConfig(embed_dim=embed_dim, depth=depth, expand=expand, scale=scale, in_chans=in_chans, border=border)
    )


def aether_small(
    scale: int = 2,
    *,
    in_chans: int = 3,
    drop_path_rate: float = 0.1,
    fused_init: bool = False,
    norm: Norm = "layer",
    gate: Gate = "gelu",
    deployed_kernel: int | None = None,
    image_residual: bool = False,
    tail: Tail = "conv",
    border: int = 0,
) -> AetherNet:
    """embed_dim 96, depths 4,4,4,4, 11x11 large kernel. Without options: the public aether_small."""
    return _variant(
        "aether_small",
        scale,
        in_chans,
        drop_path_rate,
        fused_init,
        norm,
        gate,
        deployed_kernel,
        image_residual,
        tail,
        border,
    )


def aether_medium(
    scale: int = 2,
    *,
    in_chans: int = 3,
    drop_path_rate: float = 0.1,
    fused_init: bool = False,
    norm: Norm = "layer",
    gate: Gate = "gelu",
    deployed_kernel: int | None = None,
    image_residual: bool = False,
    tail: Tail = "conv",
    border: int = 0,
) -> AetherNet:
    """embed_dim 128, depths 6 x 6, 11x11 large kernel. Without options: the public aether_medium."""
    return _variant(
        "aether_medium",
        scale,
        in_chans,
        drop_path_rate,
        fused_init,
        norm,
        gate,
        deployed_kernel,
        image_residual,
        tail,
        border,
    )


def aether_large(
    scale: int = 2,
    *,
    in_chans: int = 3,
    drop_path_rate: float = 0.1,
    fused_init: bool = False,
    norm: Norm = "layer",
    gate: Gate = "gelu",
    deployed_kernel: int | None = None,
    image_residual: bool = False,
    tail: Tail = "conv",
    border: int = 0,
) -> AetherNet:
    """embed_dim 180, depths 8 x 8, 13x13 large kernel. Without options: the public aether_large."""
    return _variant(
        "aether_large",
        scale,
        in_chans,
        drop_path_rate,
        fused_init,
        norm,
        gate,
        deployed_kernel,
        image_residual,
        tail,
        border,
    )


def _variant(
    name: str,
    scale: int,
    in_chans: int,
    drop_path_rate: float,
    fused_init: bool,
    norm: Norm,
    gate: Gate,
    deployed_kernel: int | None,
    image_residual: bool,
    tail: Tail,
    border: int,
) -> AetherNet:
    embed_dim, depths, hidden, lk_kernel, sk_kernel = VARIANTS[name]
    return AetherNet(
        in_chans,
        embed_dim,
        depths,
        hidden / embed_dim,
        drop_path_rate=drop_path_rate,
        lk_kernel=lk_kernel,
        sk_kernel=sk_kernel,
        upscale=scale,
        fused_init=fused_init,
        norm=norm,
        gate=gate,
        deployed_kernel=deployed_kernel,
        image_residual=image_residual,
        tail=tail,
        border=border,
    )
