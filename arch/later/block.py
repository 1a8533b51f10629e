"""The block: as checkpoints hold it, as it is deployed, and how one becomes the other."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .. import folding
from ..layers import ChannelNorm, FusedGatedFFN, ReparamLargeKernelConv
from .config import AetherNetLaterConfig
from .layers import (
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


def fold_block(block: LaterBlock, fold_norms: bool) -> dict[str, Tensor]:
    """The tensors of a block's deployed form, in float64; temperature and residual scale go into its convolutions."""
    block, r = copy.deepcopy(block).double(), block.res_scale
    ffn, norm, heat = block.ffn, block.norm, block.ffn.temperature
    if isinstance(norm, RunningNorm):
        norm = norm.gain_mean_shift()
    assert isinstance(norm, nn.LayerNorm | tuple)
    gate, main, out = _matrix(ffn.conv_gate), _matrix(ffn.conv_main), _matrix(ffn.conv_out)
    fc1 = torch.cat([gate[0] * heat, main[0]]), torch.cat([gate[1] * heat, main[1]])
    state = folding.fold_block(block.conv.kernel_and_bias(), norm, fc1, (out[0] * r, out[1] * r), fold_norms=fold_norms)
    # Both attentions see inputs smaller by the residual's scale, which their first weights take back.
    state |= {f"channel_attn.{key}": value for key, value in block.channel_attn.state_dict().items()}
    state |= {f"spatial_attn.{key}": value for key, value in block.spatial_attn.state_dict().items()}
    for key in {"channel_attn.fc.0.weight", "spatial_attn.conv.weight"} & state.keys():
        state[key] = state[key] / r
    return state


def _matrix(conv: nn.Conv2d) -> folding.Affine:
    """A 1x1 convolution's weight as a matrix, and its bias."""
    assert conv.bias is not None
    return conv.weight[:, :, 0, 0], conv.bias
