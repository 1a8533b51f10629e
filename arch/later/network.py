"""The network, in the forms that checkpoints hold and in the deployed one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..folding import channel_norm, fold_batch_norm
from ..layers import ChannelNorm
from ..upscaler import Upscaler, deployed
from .block import FusedLaterBlock, LaterBlock, fold_block, norm_of
from .config import AetherNetLaterConfig
from .layers import LAYER_NORM_EPS, LaterUpsample, RunningNorm, StageFusion


class _Later(Upscaler):
    """What both forms share: everything but blocks and norms; (N, C, H, W) in [0, img_range], not clamped."""

    config: AetherNetLaterConfig
    mean: Tensor
    scale_tensor: Tensor

    def __init__(self, config: AetherNetLaterConfig, block: Callable[[], nn.Module], norm: nn.Module) -> None:
        super().__init__(config)
        c, stages = config.embed_dim, len(config.depths)
        if not stages or min(config.depths) < 1 or c < max(8, stages):
            raise ValueError(
                f"embed_dim is {c} and depths {config.depths}: embed_dim must be at least 8 and the number of "
                "depths, each depth at least 1."
            )
        self.register_buffer("scale_tensor", torch.tensor(config.scale))
        self.register_buffer("mean", torch.full((1, config.in_chans, 1, 1), 0.5))
        self.conv_first = nn.Conv2d(config.in_chans, c, 3, padding=1)
        self.stages = nn.ModuleList(nn.Sequential(*(block() for _ in range(depth))) for depth in config.depths)
        widths = [c // stages + (i < c % stages) for i in range(stages)]
        self.fusion_convs = nn.ModuleList(nn.Conv2d(c, width, 1) for width in widths)
        self.quant_fusion_layer = StageFusion(c, error_comp=config.fused != "full")
        self.norm = norm
        self.conv_after_body = nn.Conv2d(c, c, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.LeakyReLU(0.01))
        self.upsample = LaterUpsample(config)
        self.conv_last = nn.Conv2d(config.upsample_plan[-1][1], config.in_chans, 3, padding=1)

    def upscale(self, image: Tensor) -> Tensor:
        """See `Upscaler.upscale`."""
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


class AetherNetLater(_Later):
    """The later layout as its checkpoints hold it, unfused or fused (`config.fused` "none" and "kernel").

    Keys and outputs are those of version 3.1.1 of the public code. Train and eval mode compute the same: norms use
    their running statistics and nothing is dropped.
    """

    merged = (
        (r"\.conv\.(lk_conv|sk_conv|fused_conv)$", ".conv"),
        (r"\.ffn\.(conv_gate|conv_main)$", ".ffn.fc1"),
        (r"\.ffn\.conv_out$", ".ffn.fc2"),
    )

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__(config, lambda: LaterBlock(config), norm_of(config))

    def _fuse(self, fold_norms: bool) -> FusedAetherNetLater:
        """Batch norms go into the depthwise convolutions and the last one into the 1x1 fusion, LayerNorm affines into
        the gated net, except the last, which stays; temperature and residual scale into 1x1 convolutions.
        """
        config = self.config
        replaced = ("stages.", "norm.", "quant_fusion_layer.")
        state = {k: v for k, v in self.state_dict().items() if not k.startswith(replaced)}
        fusion, norm = copy.deepcopy(self.quant_fusion_layer).double(), copy.deepcopy(self.norm).double()
        assert fusion.fusion_conv.bias is not None and fusion.error_comp is not None
        weight, bias = fusion.fusion_conv.weight, fusion.fusion_conv.bias + fusion.error_comp.flatten()
        if isinstance(norm, RunningNorm):
            weight, bias = fold_batch_norm((weight, bias), norm.gain_mean_shift())
        else:
            state |= channel_norm("norm.", norm)
        state |= {"quant_fusion_layer.fusion_conv.weight": weight, "quant_fusion_layer.fusion_conv.bias": bias}
        for name, block in self.named_modules(remove_duplicate=False):
            if isinstance(block, LaterBlock):
                state |= {f"{name}.{key}": value for key, value in fold_block(block, fold_norms).items()}
        target = dataclasses.replace(config, fused="full", sk_kernel=min(3, config.lk_kernel))
        fused = FusedAetherNetLater(target, affine=not fold_norms)
        deployed(fused, state, self)
        return fused


class FusedAetherNetLater(_Later):
    """AetherNetLater after `fuse`."""

    keep_float: ClassVar[Mapping[str, str]] = {
        "channel_attn.": "works on one vector an image, where int8 saves no time",
        "spatial_attn.": "two channels in and one out before a sigmoid: nothing to save, and a coarse mask",
        "quant_fusion_layer.": "reads a concatenation, behind which OpenVINO computes int8 wrongly",
    }
    # OpenVINO 2026.4.1 takes another step for the input of an int8 convolution behind a Concat, once its range is 0.5
    # or more (35 dB from torch; in float 65 and more).
    never_int8: ClassVar[tuple[str, ...]] = ("spatial_attn.", "quant_fusion_layer.")

    def __init__(self, config: AetherNetLaterConfig, *, affine: bool = False) -> None:
        # The last norm is followed by a sum, so its affine has no convolution to fold into.
        layer = config.norm == "layer"
        norm = ChannelNorm(config.embed_dim, LAYER_NORM_EPS, affine=True) if layer else nn.Identity()
        super().__init__(config, lambda: FusedLaterBlock(config, affine=affine), norm)


AetherNetLaterConfig.modules = {"none": AetherNetLater, "kernel": AetherNetLater, "full": FusedAetherNetLater}
