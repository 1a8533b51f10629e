"""The block: as it is trained, as it is deployed, and how one becomes the other."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .. import folding
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


def fold_block(block: AetherBlock, fold_norms: bool) -> dict[str, Tensor]:
    """The tensors of a block's deployed form, in float64."""
    block = copy.deepcopy(block).double()
    ffn, norm = block.ffn, block.norm
    if not isinstance(norm, nn.LayerNorm):
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.running_mean is not None
        norm = norm.weight / torch.sqrt(norm.running_var + norm.eps), norm.running_mean, norm.bias
    fc1 = torch.cat([ffn.fc1_gate.weight, ffn.fc1_main.weight]), torch.cat([ffn.fc1_gate.bias, ffn.fc1_main.bias])
    fc2 = ffn.fc2.weight, ffn.fc2.bias
    marker = {"ffn.relu_gate": torch.empty(0)} if ffn.gate == "relu" else {}
    return marker | folding.fold_block(block.conv.kernel_and_bias(), norm, fc1, fc2, fold_norms=fold_norms)
