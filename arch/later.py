"""The later public layout (keys `stages.*`, version 3.1.1 of the public code), for inference and export.

It differs from AetherNet in its normalisation (batch-norm like), SiLU gates with a temperature, attention after
the gated net, a scaled residual, and the fusion of all stages' features before the last norm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import keys
from .errors import CheckpointError
from .layers import ChannelNorm, FusedGatedFFN, Norm, ReparamLargeKernelConv, tail_radius, upsample_factors
from .upscaler import Config, Fused, Upscaler, deployed

VERSION = [3, 1, 1]  # of the public code; the others share its keys, but not its forward pass
BATCH_NORM_EPS = 1e-4
LAYER_NORM_EPS = 1e-5

# Names of the public presets, by embed_dim and depths.
VARIANTS = {
    (64, (2,) * 4): "aether_later_mobile",
    (64, (3,) * 3): "aether_later_tiny",
    (96, (4,) * 4): "aether_later_small",
    (128, (6,) * 4): "aether_later_medium",
    (180, (8,) * 5): "aether_later_large",
    (192, (8,) * 5): "aether_later_pro",
    (256, (12,) * 5): "aether_later_extreme",
}


@dataclasses.dataclass(frozen=True)
class AetherNetLaterConfig(Config):
    """An AetherNet of the later public layout (`stages.*`, version 3.1.1): for inference and export.

    norm: "batch" (the public code calls it "deployment") or "layer".
    `res_scale` and `img_range` are not stored in checkpoints: the first follows from the width (0.2 up to 64
    channels, else 0.1, as in all public presets), the second is 1.0 unless the caller says otherwise.
    """

    body: ClassVar[str] = "stages."
    forms: ClassVar[tuple[frozenset[str], ...]] = keys.gated_forms("stages.")
    extras: ClassVar[frozenset[str]] = frozenset(("pt_version", "model_version"))
    options: ClassVar[tuple[str, ...]] = ("norm", "channel_attention", "spatial_attention")

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
        return VARIANTS.get((self.embed_dim, self.depths), "custom")

    @property
    def blocks(self) -> int:
        """See `Config.blocks`."""
        return sum(self.depths)

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
        """See `Config.receptive_radius`: channel attention pools the whole image."""
        if self.channel_attention:
            return None
        per_block = self.lk_kernel // 2 + (3 if self.spatial_attention else 0)
        # conv_first, conv_after_body, conv_before_upsample; then the upsampler, whose first step is at LR size.
        lead = 3 + self.blocks * per_block + (1 if self.scale == 1 else 0)
        return lead + tail_radius(self.scale)

    def build(self) -> AetherNetLater | FusedAetherNetLater:
        """A new module of this configuration, with fresh weights."""
        return FusedAetherNetLater(self) if self.fused == "full" else AetherNetLater(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """See `Config.from_state`. Other versions of the public code, which share the keys, are refused."""
        if "model_version" in state and state["model_version"].tolist() != VERSION:
            raise CheckpointError(
                f"this checkpoint is of version {state['model_version'].tolist()} of the public code, whose forward "
                f"pass is another one; of the stages.* layout, version {VERSION} is supported."
            )
        embed_dim, in_chans, _, _ = keys.shape_of(state, "conv_first.weight")
        fused = keys.fused_form(state, cls.body)
        hidden, lk, sk = keys.gated_sizes(state, cls.body, fused, "conv_gate")
        if fused == "full":
            layer = keys.any_key(state, cls.body, ".norm.eps")
        else:
            layer = "norm.weight" in state and state["norm.weight"].ndim == 1
        return cls(
            embed_dim=embed_dim,
            depths=keys.depths(state, cls.body),
            hidden=hidden,
            lk_kernel=lk,
            sk_kernel=sk,
            scale=_scale(state),
            in_chans=in_chans,
            norm="layer" if layer else "batch",
            channel_attention=keys.any_key(state, cls.body, ".channel_attn.fc.0.weight"),
            spatial_attention=keys.any_key(state, cls.body, ".spatial_attn.conv.weight"),
            fused=fused,
        )


def _scale(state: Mapping[str, Tensor]) -> int:
    """The scale that the upsampler's shapes give, which `scale_tensor` must confirm."""
    steps = keys.steps(state, "upsample.blocks.")
    if len(steps) > 1:
        scale = 2 ** len(steps)
    else:
        name = f"{steps[0] if steps else 'upsample.blocks.0'}.weight"
        outer, inner = keys.shape_of(state, name)[0], keys.shape_of(state, "conv_last.weight")[1]
        scale = keys.integer_root(outer // inner, name)
    stored = state.get("scale_tensor")
    if stored is None or stored.numel() != 1:
        raise CheckpointError("truncated AetherNet checkpoint: scale_tensor is missing or no single number.")
    if stored.item() != scale:
        raise CheckpointError(
            f"mixed AetherNet checkpoint: scale_tensor is {stored.item()}, "
            f"but the shapes of its upsampler are those of scale {scale}."
        )
    return scale


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


class _Later(Upscaler):
    """What both forms share: everything but blocks and norms; (N, C, H, W) in [0, img_range], not clamped."""

    config: AetherNetLaterConfig
    mean: Tensor
    scale_tensor: Tensor

    def __init__(self, config: AetherNetLaterConfig, block: Callable[[], nn.Module], norm: nn.Module) -> None:
        super().__init__(config)
        c, stages = config.embed_dim, len(config.depths)
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


class LaterBlock(nn.Module):
    """x + res_scale * spatial_attn(channel_attn(ffn(norm(conv(x))))), without dropout."""

    def __init__(self, config: AetherNetLaterConfig) -> None:
        super().__init__()
        c, kernel_fused = config.embed_dim, config.fused == "kernel"
        self.conv = ReparamLargeKernelConv(c, config.lk_kernel, config.sk_kernel, fused=kernel_fused)
        self.norm = _norm(config)
        self.ffn = LaterFFN(c, config.hidden)
        self.channel_attn = ChannelAttention(c) if config.channel_attention else nn.Identity()
        self.spatial_attn = SpatialAttention() if config.spatial_attention else nn.Identity()
        self.res_scale = config.res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.spatial_attn(self.channel_attn(self.ffn(self.norm(self.conv(x))))) * self.res_scale


def _norm(config: AetherNetLaterConfig) -> nn.Module:
    if config.norm == "layer":
        return LayerNorm2d(config.embed_dim, eps=LAYER_NORM_EPS)
    return RunningNorm(config.embed_dim, fused=config.fused == "kernel")


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
        if config.fused == "full":
            raise ValueError("A fully fused configuration builds a FusedAetherNetLater: use config.build().")
        _check_sizes(config)
        super().__init__(config, lambda: LaterBlock(config), _norm(config))

    def _fuse(self, fold_norms: bool) -> FusedAetherNetLater:
        """Batch norms go into the depthwise convolutions and the last one into the 1x1 fusion, LayerNorm affines into
        the gated net, except the last, which stays; temperature and residual scale into 1x1 convolutions.
        """
        config = self.config
        source = {k: v.double() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        replaced = ("stages.", "norm.", "quant_fusion_layer.")
        state = {k: v for k, v in source.items() if not k.startswith(replaced)}
        weight = source["quant_fusion_layer.fusion_conv.weight"]
        bias = source["quant_fusion_layer.fusion_conv.bias"] + source["quant_fusion_layer.error_comp"].flatten()
        if config.norm == "layer":
            state |= _channel_norm(source, "norm.")
        else:
            gain, shift = _gain_and_shift(source, "norm.")
            weight, bias = weight * gain.view(-1, 1, 1, 1), bias * gain + shift
        state["quant_fusion_layer.fusion_conv.weight"] = weight
        state["quant_fusion_layer.fusion_conv.bias"] = bias
        for stage, depth in enumerate(config.depths):
            for index in range(depth):
                name = f"stages.{stage}.{index}."
                block = {k.removeprefix(name): v for k, v in source.items() if k.startswith(name)}
                state |= {name + k: v for k, v in _fold_block(block, config, fold_norms).items()}
        target = dataclasses.replace(config, fused="full", sk_kernel=min(3, config.lk_kernel))
        fused = FusedAetherNetLater(target, affine=not fold_norms)
        deployed(fused, state, self)
        return fused


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
        if config.fused != "full":
            raise ValueError("FusedAetherNetLater takes a configuration with fused='full'.")
        _check_sizes(config)
        # The last norm is followed by a sum, so its affine has no convolution to fold into.
        layer = config.norm == "layer"
        norm = ChannelNorm(config.embed_dim, LAYER_NORM_EPS, affine=True) if layer else nn.Identity()
        super().__init__(config, lambda: FusedLaterBlock(config, affine=affine), norm)


def _check_sizes(config: AetherNetLaterConfig) -> None:
    c, stages = config.embed_dim, len(config.depths)
    if not stages or min(config.depths) < 1 or c < max(8, stages):
        raise ValueError(
            f"embed_dim is {c} and depths {config.depths}: embed_dim must be at least 8 and the number of "
            "depths, each depth at least 1."
        )


def _channel_norm(source: Mapping[str, Tensor], prefix: str, *, affine: bool = True) -> dict[str, Tensor]:
    """The tensors of the ChannelNorm that a LayerNorm becomes."""
    state = {f"{prefix}eps": torch.tensor(LAYER_NORM_EPS)}
    return state | (
        {f"{prefix}{k}": source[f"{prefix}{k}"].view(-1, 1, 1) for k in ("weight", "bias")} if affine else {}
    )


def _gain_and_shift(state: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor]:
    weight, bias = state[prefix + "weight"].flatten(), state[prefix + "bias"].flatten()
    if prefix + "running_var" not in state:
        return weight, bias
    gain = weight / torch.sqrt(state[prefix + "running_var"].flatten() + BATCH_NORM_EPS)
    return gain, bias - state[prefix + "running_mean"].flatten() * gain


def _fold_block(block: dict[str, Tensor], config: AetherNetLaterConfig, fold_norms: bool) -> dict[str, Tensor]:
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
    gain, shift = _gain_and_shift(block, "norm.")
    out: dict[str, Tensor] = {}
    if config.norm == "layer":
        out = _channel_norm(block, "norm.", affine=not fold_norms)
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
