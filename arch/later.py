"""The later public layout (keys `stages.*`, version 3.1.1 of the public code), for inference and export.

It differs from AetherNet in its normalisation (batch-norm like), SiLU gates with a temperature, attention after
the gated net, a scaled residual, and the fusion of all stages' features before the last norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ChannelNorm, ReparamLargeKernelConv

if TYPE_CHECKING:
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

    def gain_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine that this is: x * gain + shift, both (1, dim, 1, 1)."""
        if self.fused:
            return self.weight, self.bias
        gain = self.weight / torch.sqrt(self.running_var + BATCH_NORM_EPS)
        return gain, self.bias - self.running_mean * gain

    def forward(self, x: Tensor) -> Tensor:
        gain, shift = self.gain_and_shift()
        return x * gain + shift


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (N, dim, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _norm(config: AetherNetLaterConfig, *, last: bool) -> nn.Module:
    full = config.fused == "full"
    if config.norm == "layer":
        # The last norm is followed by a sum, so its affine has no convolution to fold into.
        if full:
            return ChannelNorm(config.embed_dim, LAYER_NORM_EPS, affine=last)
        return LayerNorm2d(config.embed_dim, eps=LAYER_NORM_EPS)
    return nn.Identity() if full else RunningNorm(config.embed_dim, fused=config.fused == "kernel")


class LaterFFN(nn.Module):
    """fc2(SiLU(gate * temperature) * main) on (N, dim, H, W), with 1x1 convolutions.

    In the form "full" both projections are one convolution (gate first), which holds the temperature too.
    """

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__()
        dim, hidden = config.embed_dim, config.hidden
        self.merged = config.fused == "full"
        if self.merged:
            self.fc1 = nn.Conv2d(dim, 2 * hidden, 1)
            self.fc2 = nn.Conv2d(hidden, dim, 1)
            return
        self.conv_gate = nn.Conv2d(dim, hidden, 1)
        self.conv_main = nn.Conv2d(dim, hidden, 1)
        self.conv_out = nn.Conv2d(hidden, dim, 1)
        self.temperature = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            gate, main = self.fc1(x).chunk(2, dim=1)
            return self.fc2(F.silu(gate) * main)
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


class LaterBlock(nn.Module):
    """x + res_scale * spatial_attn(channel_attn(ffn(norm(conv(x))))), without dropout."""

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__()
        c, k = config.embed_dim, config.lk_kernel
        if config.fused == "full":
            self.conv = nn.Conv2d(c, c, k, padding=k // 2, groups=c)
        else:
            self.conv = ReparamLargeKernelConv(c, k, config.sk_kernel, fused=config.fused == "kernel")
        self.norm = _norm(config, last=False)
        self.ffn = LaterFFN(config)
        self.channel_attn = ChannelAttention(c) if config.channel_attention else nn.Identity()
        self.spatial_attn = SpatialAttention() if config.spatial_attention else nn.Identity()
        self.res_scale = 1.0 if config.fused == "full" else config.res_scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.spatial_attn(self.channel_attn(self.ffn(self.norm(self.conv(x)))))
        return x + (y if self.res_scale == 1.0 else y * self.res_scale)


class StageFusion(nn.Module):
    """1x1 convolution of the stages' concatenated features; `error_comp` is a second bias."""

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__()
        self.fusion_conv = nn.Conv2d(config.embed_dim, config.embed_dim, 1)
        full = config.fused == "full"
        self.error_comp = None if full else nn.Parameter(torch.zeros(1, config.embed_dim, 1, 1))

    def forward(self, features: list[Tensor]) -> Tensor:
        y = self.fusion_conv(torch.cat(features, dim=1))
        return y if self.error_comp is None else y + self.error_comp


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


class AetherNetLater(nn.Module):
    """(N, in_chans, H, W) in [0, img_range] -> (N, in_chans, scale*H, scale*W), not clamped.

    Keys and outputs are those of version 3.1.1 of the public code, unfused or fused (`config.fused` "none" and
    "kernel"); "full" is what `fuse` returns. Train and eval mode compute the same: norms use their running
    statistics and nothing is dropped.
    """

    mean: Tensor
    scale_tensor: Tensor

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__()
        self.config = config
        c, stages = config.embed_dim, len(config.depths)
        if not stages or min(config.depths) < 1 or c < max(8, stages):
            raise ValueError(
                f"embed_dim is {c} and depths {config.depths}: embed_dim must be at least 8 and the number of "
                "depths, each depth at least 1."
            )
        self.register_buffer("scale_tensor", torch.tensor(config.scale))
        self.register_buffer("mean", torch.full((1, config.in_chans, 1, 1), 0.5))
        self.conv_first = nn.Conv2d(config.in_chans, c, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(LaterBlock(config) for _ in range(depth))) for depth in config.depths
        )
        widths = [c // stages + (i < c % stages) for i in range(stages)]
        self.fusion_convs = nn.ModuleList(nn.Conv2d(c, width, 1) for width in widths)
        self.quant_fusion_layer = StageFusion(config)
        self.norm = _norm(config, last=True)
        self.conv_after_body = nn.Conv2d(c, c, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.LeakyReLU(0.01))
        self.upsample = LaterUpsample(config)
        self.conv_last = nn.Conv2d(config.upsample_plan[-1][1], config.in_chans, 3, padding=1)

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.config.scale

    @property
    def receptive_radius(self) -> int | None:
        """See `AetherNetLaterConfig.receptive_radius`."""
        return self.config.receptive_radius

    def forward(self, image: Tensor) -> Tensor:
        img_range = self.config.img_range
        first = self.conv_first((image if img_range == 1.0 else image / img_range) - self.mean)
        features, y = [], first
        for stage, squeeze in zip(self.stages, self.fusion_convs, strict=True):
            y = stage(y)
            features.append(squeeze(y))
        y = self.norm(self.quant_fusion_layer(features)) + first
        y = self.conv_after_body(y) + y
        y = self.conv_last(self.upsample(self.conv_before_upsample(y))) + self.mean
        return y if img_range == 1.0 else y * img_range
