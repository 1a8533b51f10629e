"""The block: as it is trained, as it is deployed, and how one becomes the other."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..layers import (
    BATCH_NORM_LIMIT,
    ChannelNorm,
    DropPath,
    FusedGatedFFN,
    GatedFFN,
    ReparamLargeKernelConv,
)
from .config import AetherNetConfig

BLOCK_NORM_EPS = 1e-6


class AetherBlock(nn.Module):
    """x + DropPath(GatedFFN(norm(depthwise(x)))) on (N, C, H, W)."""

    def __init__(self, config: AetherNetConfig, drop_rate: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv = ReparamLargeKernelConv(
            config.embed_dim,
            config.lk_kernel,
            config.sk_kernel,
            deployed_kernel=config.deployed_kernel,
            fused=config.fused == "kernel",
        )
        self.norm: nn.Module
        if config.norm == "layer":
            self.norm = nn.LayerNorm(config.embed_dim, eps=BLOCK_NORM_EPS)
        else:
            self.norm = nn.BatchNorm2d(config.embed_dim, eps=BLOCK_NORM_EPS)
        self.ffn = GatedFFN(config.embed_dim, config.hidden, config.gate, drop_rate)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if isinstance(self.norm, nn.LayerNorm):
            y = self.norm(y.permute(0, 2, 3, 1))
        else:
            y = self.norm(y).clamp(-BATCH_NORM_LIMIT, BATCH_NORM_LIMIT).permute(0, 2, 3, 1)
        return x + self.drop_path(self.ffn(y).permute(0, 3, 1, 2))


class FusedAetherBlock(nn.Module):
    """x + ffn(norm(conv(x))); of a batch norm that folded away, the clamp is left."""

    def __init__(self, config: AetherNetConfig, *, affine: bool = False) -> None:
        super().__init__()
        c, k = config.embed_dim, config.lk_kernel
        self.conv = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        layer = config.norm == "layer"
        self.norm = (
            ChannelNorm(c, BLOCK_NORM_EPS, affine=affine) if layer else nn.Hardtanh(-BATCH_NORM_LIMIT, BATCH_NORM_LIMIT)
        )
        self.ffn = FusedGatedFFN(c, config.hidden, config.gate)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(self.norm(self.conv(x)))


def channel_norm(prefix: str, norm: nn.Module, *, affine: bool = True) -> dict[str, Tensor]:
    """The tensors of the ChannelNorm that a LayerNorm becomes."""
    assert isinstance(norm, nn.LayerNorm)
    state = {f"{prefix}eps": torch.tensor(norm.eps)}
    if affine:
        state |= {f"{prefix}weight": norm.weight.view(-1, 1, 1), f"{prefix}bias": norm.bias.view(-1, 1, 1)}
    return state


def fold_block(block: AetherBlock, fold_norms: bool) -> dict[str, Tensor]:
    """The tensors of a block's deployed form, in float64."""
    block = copy.deepcopy(block).double()
    kernel, bias = block.conv.kernel_and_bias()
    ffn, norm = block.ffn, block.norm
    fc1 = torch.cat([ffn.fc1_gate.weight, ffn.fc1_main.weight])
    fc1_bias = torch.cat([ffn.fc1_gate.bias, ffn.fc1_main.bias])
    out: dict[str, Tensor] = {}
    if isinstance(norm, nn.LayerNorm):
        out = channel_norm("norm.", norm, affine=not fold_norms)
        if fold_norms:  # fc1(normalised * w + b) = (fc1 * w)(normalised) + fc1(b)
            fc1_bias = fc1_bias + fc1 @ norm.bias
            fc1 = fc1 * norm.weight
    else:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel = kernel * gain.view(-1, 1, 1, 1)
        bias = (bias - norm.running_mean) * gain + norm.bias
    if ffn.gate == "relu":
        out["ffn.relu_gate"] = torch.empty(0)
    return out | {
        "conv.weight": kernel,
        "conv.bias": bias,
        "ffn.fc1.weight": fc1[:, :, None, None],
        "ffn.fc1.bias": fc1_bias,
        "ffn.fc2.weight": ffn.fc2.weight[:, :, None, None],
        "ffn.fc2.bias": ffn.fc2.bias,
    }
