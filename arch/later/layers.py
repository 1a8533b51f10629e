"""Layers that this layout alone has: norms, attention, the gate with a temperature, upsampling, fusion of stages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import AetherNetLaterConfig

BATCH_NORM_EPS = 1e-4
LAYER_NORM_EPS = 1e-5


class RunningNorm(nn.Module):
    """Batch norm with its running statistics, on (N, dim, H, W); a plain affine where `fused`."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int, *, fused: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.fused = fused
        if not fused:
            self.register_buffer("running_mean", torch.zeros(1, dim, 1, 1))
            self.register_buffer("running_var", torch.ones(1, dim, 1, 1))

    def gain_mean_shift(self) -> tuple[Tensor, Tensor, Tensor]:
        """What this is, (x - mean) * gain + shift: gain, mean and shift, (dim,) each."""
        weight, bias = self.weight.flatten(), self.bias.flatten()
        if self.fused:
            return weight, torch.zeros_like(weight), bias
        return weight / torch.sqrt(self.running_var.flatten() + BATCH_NORM_EPS), self.running_mean.flatten(), bias

    def forward(self, x: Tensor) -> Tensor:
        gain, mean, shift = (t.view(1, -1, 1, 1) for t in self.gain_mean_shift())
        return x * gain + (shift - mean * gain)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (N, dim, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LaterFFN(nn.Module):
    """conv_out(SiLU(gate * temperature) * main) on (N, dim, H, W), with 1x1 convolutions."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.conv_gate = nn.Conv2d(dim, hidden, 1)
        self.conv_main = nn.Conv2d(dim, hidden, 1)
        self.conv_out = nn.Conv2d(hidden, dim, 1)
        self.temperature = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.conv_gate(x) * self.temperature) * self.conv_main(x))


class ChannelAttention(nn.Module):
    """Squeeze and excitation (Hu et al., 2018): x * sigmoid(fc(mean over the image))."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(dim, dim // 8, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(dim // 8, dim, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(F.adaptive_avg_pool2d(x, 1))


class SpatialAttention(nn.Module):
    """x * sigmoid(7x7 convolution of the channels' maximum and mean) (Woo et al., CBAM, 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.conv(pooled))


class LaterUpsample(nn.Module):
    """[Conv3x3, PixelShuffle] for each factor of the scale; one Conv3x3 at scale 1."""

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for inner, outer, factor in config.upsample_plan:
            self.blocks.append(nn.Conv2d(inner, outer * factor * factor, 3, padding=1))
            if factor > 1:
                self.blocks.append(nn.PixelShuffle(factor))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class StageFusion(nn.Module):
    """1x1 convolution of the stages' concatenated features; `error_comp`, where there is one, is a second bias."""

    def __init__(self, dim: int, *, error_comp: bool) -> None:
        super().__init__()
        self.fusion_conv = nn.Conv2d(dim, dim, 1)
        self.error_comp = nn.Parameter(torch.zeros(1, dim, 1, 1)) if error_comp else None

    def forward(self, features: list[Tensor]) -> Tensor:
        y = self.fusion_conv(torch.cat(features, dim=1))
        return y if self.error_comp is None else y + self.error_comp
