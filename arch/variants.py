"""The named variants. Each is a function with a full signature, so that trainers can register it as it is."""

from __future__ import annotations

from collections.abc import Callable

from .aethernet import SIZES, AetherNet, AetherNetConfig, Tail
from .layers import Gate, Norm
from .tiny import AetherTiny, AetherTinyConfig
from .upscaler import Upscaler


def aether_tiny(
    scale: int = 2, *, in_chans: int = 3, embed_dim: int = 48, depth: int = 9, expand: int = 2, border: int = 0
) -> AetherTiny:
    """The real-time variant, made for int8: dense 3x3 convolutions, ReLU, image residual (see AetherTiny)."""
    return AetherTiny(
        AetherTinyConfig(embed_dim=embed_dim, depth=depth, expand=expand, scale=scale, in_chans=in_chans, border=border)
    )


def _variant(name: str):  # noqa: ANN202, type checkers take the signature of `build`
    size = SIZES[name]

    def build(
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
        options = (norm, gate, deployed_kernel, image_residual, tail, border)
        config = AetherNetConfig(*size, scale, in_chans, *options, fused="kernel" if fused_init else "none")
        return AetherNet.from_config(config, drop_path_rate=drop_path_rate)

    dim, depths, _, kernel, _ = size
    build.__name__ = build.__qualname__ = name
    build.__doc__ = (
        f"embed_dim {dim}, depths {', '.join(map(str, depths))}, {kernel}x{kernel} large kernel. "
        f"Without options: the public {name}."
    )
    return build


aether_small = _variant("aether_small")
aether_medium = _variant("aether_medium")
aether_large = _variant("aether_large")

VARIANTS: dict[str, Callable[..., Upscaler]] = {
    f.__name__: f for f in (aether_tiny, aether_small, aether_medium, aether_large)
}
"""The variants that can be trained, by name."""
