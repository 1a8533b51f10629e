"""The block: as checkpoints hold it, as it is deployed, and how one becomes the other."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import ChannelNorm, FusedGatedFFN, ReparamLargeKernelConv
from .config import AetherNetLaterConfig
from .layers import (
    BATCH_NORM_EPS,
    LAYER_NORM_EPS,
    ChannelAttention,
    LaterFFN,
    LayerNorm2d,
    RunningNorm,
    SpatialAttention,
)


class LaterBlock(nn.Module):
    """x + res_scale * spatial_attn(channel_attn(ffn(norm(conv(x))))), without dropout."""

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__()
        c, kernel_fused = config.embed_dim, config.fused == "kernel"
        self.conv = ReparamLargeKernelConv(c, config.lk_kernel, config.sk_kernel, fused=kernel_fused)
        self.norm = norm_of(config)
        self.ffn = LaterFFN(c, config.hidden)
        self.channel_attn = ChannelAttention(c) if config.channel_attention else nn.Identity()
        self.spatial_attn = SpatialAttention() if config.spatial_attention else nn.Identity()
        self.res_scale = config.res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.spatial_attn(self.channel_attn(self.ffn(self.norm(self.conv(x))))) * self.res_scale


def norm_of(config: AetherNetLaterConfig) -> nn.Module:
    """The norm of a form that checkpoints hold, on (N, embed_dim, H, W)."""
    if config.norm == "layer":
        return LayerNorm2d(config.embed_dim, eps=LAYER_NORM_EPS)
    return RunningNorm(config.embed_dim, fused=config.fused == "kernel")


class FusedLaterBlock(nn.Module):
    """x + spatial_attn(channel_attn(ffn(norm(conv(x))))): the residual's scale lies in fc2."""

    def __init__(self, config: AetherNetLaterConfig, *, affine: bool = False) -> None:
        super().__init__()
        c, k, layer = config.embed_dim, config.lk_kernel, config.norm == "layer"
        self.conv = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        self.norm = ChannelNorm(c, LAYER_NORM_EPS, affine=affine) if layer else nn.Identity()
        self.ffn = FusedGatedFFN(c, config.hidden, "silu")
        self.channel_attn = ChannelAttention(c) if config.channel_attention else nn.Identity()
        self.spatial_attn = SpatialAttention() if config.spatial_attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.spatial_attn(self.channel_attn(self.ffn(self.norm(self.conv(x)))))


def channel_norm(source: Mapping[str, Tensor], prefix: str, *, affine: bool = True) -> dict[str, Tensor]:
    """The tensors of the ChannelNorm that a LayerNorm becomes."""
    state = {f"{prefix}eps": torch.tensor(LAYER_NORM_EPS)}
    return state | (
        {f"{prefix}{k}": source[f"{prefix}{k}"].view(-1, 1, 1) for k in ("weight", "bias")} if affine else {}
    )


def gain_and_shift(state: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor]:
    """A norm's affine, x * gain + shift, both (dim,); of a batch norm with its running statistics in it."""
    weight, bias = state[prefix + "weight"].flatten(), state[prefix + "bias"].flatten()
    if prefix + "running_var" not in state:
        return weight, bias
    gain = weight / torch.sqrt(state[prefix + "running_var"].flatten() + BATCH_NORM_EPS)
    return gain, bias - state[prefix + "running_mean"].flatten() * gain


def fold_block(block: dict[str, Tensor], config: AetherNetLaterConfig, fold_norms: bool) -> dict[str, Tensor]:
    """The tensors of one block in the form "full", from those of its form "none" or "kernel" in float64."""
    if config.fused == "kernel":
        kernel, bias = block["conv.fused_conv.weight"], block["conv.fused_conv.bias"]
    else:
        pad = (config.lk_kernel - config.sk_kernel) // 2
        kernel = block["conv.lk_conv.weight"] + F.pad(block["conv.sk_conv.weight"], [pad] * 4)
        bias = block["conv.lk_bias"] + block["conv.sk_bias"]
    heat = block["ffn.temperature"]
    fc1 = torch.cat([block["ffn.conv_gate.weight"] * heat, block["ffn.conv_main.weight"]])
    fc1_bias = torch.cat([block["ffn.conv_gate.bias"] * heat, block["ffn.conv_main.bias"]])
    gain, shift = gain_and_shift(block, "norm.")
    out: dict[str, Tensor] = {}
    if config.norm == "layer":
        out = channel_norm(block, "norm.", affine=not fold_norms)
        if fold_norms:
            fc1_bias = fc1_bias + fc1[:, :, 0, 0] @ shift
            fc1 = fc1 * gain.view(1, -1, 1, 1)
    else:
        kernel, bias = kernel * gain.view(-1, 1, 1, 1), bias * gain + shift
    # res_scale goes into fc2; both attentions see inputs smaller by it, which their first weights take back.
    r = config.res_scale
    if config.channel_attention:
        out["channel_attn.fc.0.weight"] = block["channel_attn.fc.0.weight"] / r
        out["channel_attn.fc.2.weight"] = block["channel_attn.fc.2.weight"]
    if config.spatial_attention:
        out["spatial_attn.conv.weight"] = block["spatial_attn.conv.weight"] / r
    return out | {
        "conv.weight": kernel,
        "conv.bias": bias,
        "ffn.fc1.weight": fc1,
        "ffn.fc1.bias": fc1_bias,
        "ffn.fc2.weight": block["ffn.conv_out.weight"] * r,
        "ffn.fc2.bias": block["ffn.conv_out.bias"] * r,
    }
