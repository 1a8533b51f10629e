"""AetherNet: the first public layout (keys and forward pass), with this project's options."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import keys
from .errors import CheckpointError
from .layers import (
    BATCH_NORM_LIMIT,
    ChannelNorm,
    DropPath,
    FusedGatedFFN,
    Gate,
    GatedFFN,
    Norm,
    ReparamLargeKernelConv,
    repeat_channels,
    tail_radius,
    upsample_factors,
)
from .upscaler import Config, Fused, Scaling, Upscaler, deployed

Tail = Literal["conv", "direct"]

BLOCK_NORM_EPS = 1e-6
FINAL_NORM_EPS = 1e-5

# Sizes of the named variants: embed_dim, depths, hidden channels, lk_kernel, sk_kernel.
SIZES: dict[str, tuple[int, tuple[int, ...], int, int, int]] = {
    "aether_small": (96, (4, 4, 4, 4), 192, 11, 3),
    "aether_medium": (128, (6,) * 6, 256, 11, 3),
    "aether_large": (180, (8,) * 8, 450, 13, 3),
}


@dataclasses.dataclass(frozen=True)
class AetherNetConfig(Config):
    """An AetherNet of the first public layout, with this project's options.

    `fused` is "none" (training branches), "kernel" (the public fused layout: one depthwise kernel) or "full"
    (`arch.fuse`: every affine folded, gate projections merged, only plain convolutions left).
    `border` is the number of pixels by which pictures are continued (see `Upscaler`).
    `img_range` is not stored in checkpoints; it is 1.0 unless the caller says otherwise.
    """

    body: ClassVar[str] = "layers."
    forms: ClassVar[tuple[frozenset[str], ...]] = keys.gated_forms("layers.")
    options: ClassVar[tuple[str, ...]] = ("norm", "gate", "deployed_kernel", "image_residual", "tail", "border")

    embed_dim: int
    depths: tuple[int, ...]
    hidden: int
    lk_kernel: int = 11
    sk_kernel: int = 3
    scale: int = 2
    in_chans: int = 3
    norm: Norm = "layer"
    gate: Gate = "gelu"
    deployed_kernel: int | None = None
    image_residual: bool = False
    tail: Tail = "conv"
    border: int = 0
    img_range: float = 1.0
    fused: Fused = "none"

    @property
    def variant(self) -> str:
        """The named variant of this width and depth, or "custom"."""
        sizes = (self.embed_dim, self.depths, self.hidden)
        return next((name for name, size in SIZES.items() if size[:3] == sizes), "custom")

    @property
    def blocks(self) -> int:
        """See `Config.blocks`."""
        return sum(self.depths)

    @property
    def supports_half(self) -> bool:
        """Behind a batch norm: its clamp bounds what the gated nets multiply (see `Config.supports_half`)."""
        return self.norm == "batch"

    @property
    def receptive_radius(self) -> int:
        """See `Config.receptive_radius`; with a deployed kernel, the reach after the window has been annealed."""
        radius = 2 + self.blocks * ((self.deployed_kernel or self.lk_kernel) // 2)
        if self.tail == "direct":
            return radius + 1
        return radius + 1 + tail_radius(self.scale)  # conv_before_upsample, and what follows it

    def build(self) -> AetherNet | FusedAetherNet:
        """A new module of this configuration, with fresh weights."""
        return FusedAetherNet(self) if self.fused == "full" else AetherNet.from_config(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """See `Config.from_state`."""
        embed_dim, in_chans, _, _ = keys.shape_of(state, "conv_first.weight")
        depths = keys.depths(state, cls.body)
        last = keys.shape_of(state, "conv_last.weight")
        fused = keys.fused_form(state, cls.body)
        hidden, lk, sk = keys.gated_sizes(state, cls.body, fused, "fc1_gate")
        if fused == "full":
            norm = "layer" if keys.any_key(state, cls.body, ".norm.eps") else "batch"
        else:
            norm = "batch" if keys.any_key(state, cls.body, ".norm.running_mean") else "layer"
        direct = not any(k.startswith(("conv_before_upsample.", "upsample.")) for k in state)
        if direct:
            scale = keys.direct_scale(last[0], in_chans)
        else:
            scale = 1
            for step in keys.steps(state, "upsample."):
                out, inner, _, _ = keys.shape_of(state, f"{step}.weight")
                scale *= keys.integer_root(out // inner, step)
            if last[0] != in_chans:
                raise CheckpointError(f"conv_last gives {last[0]} channels and conv_first takes {in_chans}.")
        return cls(
            embed_dim=embed_dim,
            depths=depths,
            hidden=hidden,
            lk_kernel=lk,
            sk_kernel=sk,
            scale=scale,
            in_chans=in_chans,
            norm=norm,
            gate="relu" if keys.any_key(state, cls.body, ".ffn.relu_gate") else "gelu",
            deployed_kernel=_deployed_kernel(state) if fused == "none" else None,
            image_residual="image_residual" in state,
            tail="direct" if direct else "conv",
            border=keys.border(state),
            fused=fused,
        )


def _deployed_kernel(state: Mapping[str, Tensor]) -> int | None:
    """The window's size, which must be one and the same in all blocks."""
    windows = {k: v.tolist() for k, v in state.items() if k.startswith("layers.") and k.endswith(".conv.window")}
    sizes = {v[0] if isinstance(v, list) and len(v) == 2 else None for v in windows.values()}
    if not sizes:
        return None
    size = sizes.pop()
    if sizes or not isinstance(size, float) or not size.is_integer():
        raise CheckpointError(f"mixed or damaged AetherNet checkpoint: its windows are {windows}.")
    return int(size)


class ImageTail(Upscaler):
    """Both forms' last stage, features (N, C, H, W) and input image -> image (N, in_chans, s*H, s*W).

    tail "conv": Conv + LeakyReLU(0.01), [Conv, PixelShuffle]*, Conv at output resolution (public layout).
    tail "direct": one Conv to in_chans * s * s channels and PixelShuffle.
    The image residual is nearest-neighbour upscaling of the input, marked by the empty buffer `image_residual`.
    """

    config: AetherNetConfig

    def __init__(self, config: AetherNetConfig) -> None:
        super().__init__(config)
        c, s, ch = config.embed_dim, config.scale, config.in_chans
        factors = upsample_factors(s)  # refuses other scales
        if config.image_residual:
            self.register_buffer("image_residual", torch.empty(0))
        if config.tail == "direct":
            self.conv_last = nn.Conv2d(c, ch * s * s, 3, padding=1)
            return
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(c, 64, 3, padding=1), nn.LeakyReLU(0.01))
        layers: list[nn.Module] = []
        for factor in factors:
            layers += [nn.Conv2d(64, 64 * factor * factor, 3, padding=1), nn.PixelShuffle(factor)]
        self.upsample = nn.Sequential(*layers)
        self.conv_last = nn.Conv2d(64, ch, 3, padding=1)

    def centre(self, image: Tensor) -> Tensor:
        """(image - mean) * img_range: mean 0.5 for colour, 0 otherwise (it is not stored in checkpoints)."""
        return (image - self.mean) * self.config.img_range

    @property
    def mean(self) -> float:
        """The constant subtracted from every channel of the input and added back at the end."""
        return 0.5 if self.config.in_chans == 3 else 0.0

    def to_image(self, features: Tensor, centred: Tensor) -> Tensor:
        """Features and the centred input -> the upscaled image, in the input's range (not clamped)."""
        s = self.config.scale
        if self.config.tail == "direct":
            y = self.conv_last(features)
            if self.config.image_residual:
                y = y + repeat_channels(centred, s * s)
            y = F.pixel_shuffle(y, s)
        else:
            y = self.conv_last(self.upsample(self.conv_before_upsample(features)))
            if self.config.image_residual:
                y = y + F.pixel_shuffle(repeat_channels(centred, s * s), s)
        return y / self.config.img_range + self.mean


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


class AetherNet(ImageTail):
    """AetherNet, trainable form: (N, in_chans, H, W) in [0, 1] -> (N, in_chans, scale*H, scale*W), not clamped.

    The positional arguments are those of the public network; without the keyword-only options, state-dict keys
    and outputs are those of its checkpoints (`fused_init`: of its fused ones). Options, all off by default:

    norm: "layer", or "batch", which folds away at inference but for a clamp to +-BATCH_NORM_LIMIT (there is then no
        norm before conv_after_body, since an affine before a zero-padded convolution does not fold exactly at the
        borders).
    gate: "gelu" or "relu".
    deployed_kernel: odd size <= lk_kernel that the annealed window leaves (see ReparamLargeKernelConv).
    image_residual: add the nearest-neighbour upscaled input.
    tail: "conv" (public) or "direct" (one convolution and PixelShuffle).
    border: pixels by which pictures are continued (see Upscaler).

    Raises ValueError for sizes or options outside of these.
    """

    repeated = (AetherBlock,)
    merged = (
        (r"\.conv\.(lk_conv|sk_conv|fused_conv)$", ".conv"),
        (r"\.ffn\.(fc1_gate|fc1_main)$", ".ffn.fc1"),
    )

    def __init__(
        self,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (4, 4, 4, 4),
        mlp_ratio: float = 2.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        lk_kernel: int = 11,
        sk_kernel: int = 3,
        upscale: int = 2,
        img_range: float = 1.0,
        fused_init: bool = False,
        *,
        norm: Norm = "layer",
        gate: Gate = "gelu",
        deployed_kernel: int | None = None,
        image_residual: bool = False,
        tail: Tail = "conv",
        border: int = 0,
    ) -> None:
        config = AetherNetConfig(
            embed_dim=embed_dim,
            depths=tuple(depths),
            hidden=int(embed_dim * mlp_ratio),
            lk_kernel=lk_kernel,
            sk_kernel=sk_kernel,
            scale=upscale,
            in_chans=in_chans,
            norm=norm,
            gate=gate,
            deployed_kernel=deployed_kernel,
            image_residual=image_residual,
            tail=tail,
            border=border,
            img_range=img_range,
            fused="kernel" if fused_init else "none",
        )
        self._make(config, drop_rate, drop_path_rate)

    @classmethod
    def from_config(cls, config: AetherNetConfig, *, drop_path_rate: float = 0.0) -> Self:
        """A network of this configuration (`fused` "none" or "kernel")."""
        network = cls.__new__(cls)
        network._make(config, 0.0, drop_path_rate)
        return network

    def _make(self, config: AetherNetConfig, drop_rate: float, drop_path_rate: float) -> None:
        if config.norm not in ("layer", "batch") or config.tail not in ("conv", "direct"):
            raise ValueError(
                f"norm is {config.norm!r}, tail is {config.tail!r}; allowed are layer|batch and conv|direct."
            )
        if not config.depths or min(config.depths) < 1:
            raise ValueError(f"depths is {config.depths}; it must hold at least one positive number.")
        if config.fused == "full":
            raise ValueError("A fully fused configuration builds a FusedAetherNet: use config.build().")
        super().__init__(config)
        c = config.embed_dim
        self.conv_first = nn.Conv2d(config.in_chans, c, 3, padding=1)
        rates = [drop_path_rate * i / max(config.blocks - 1, 1) for i in range(config.blocks)]
        self.layers = nn.ModuleList(
            nn.Sequential(*(AetherBlock(config, drop_rate, rates.pop(0)) for _ in range(depth)))
            for depth in config.depths
        )
        if config.norm == "layer":
            self.norm = nn.LayerNorm(c, eps=FINAL_NORM_EPS)
        self.conv_after_body = nn.Conv2d(c, c, 3, padding=1)
        self._init_weights()

    def _init_weights(self) -> None:
        """The public init (std 0.02, zero biases) for the public form.

        With a ReLU gate PyTorch's defaults stay: 0.02 is so small that the gated body hardly wakes up.
        With an image residual the last convolution starts at zero: training starts from the upscaled input.
        """
        if self.config.gate == "gelu":
            for m in self.modules():
                if isinstance(m, (nn.Linear, nn.Conv2d)):
                    nn.init.trunc_normal_(m.weight, std=0.02)
                    if m.bias is not None:
                        nn.init.zeros_(m.bias)
        if self.config.image_residual:
            nn.init.zeros_(self.conv_last.weight)
            assert self.conv_last.bias is not None
            nn.init.zeros_(self.conv_last.bias)

    def upscale(self, image: Tensor) -> Tensor:
        """See `Upscaler.upscale`."""
        if self.config.deployed_kernel is not None and not torch.compiler.is_compiling():
            self.settle()
        x = self.centre(image)
        first = self.conv_first(x)
        y = first
        for layer in self.layers:
            y = layer(y)
        if self.config.norm == "layer":
            y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.to_image(self.conv_after_body(y) + first, x)

    def _fuse(self, fold_norms: bool) -> FusedAetherNet:
        config = self.config
        kernel = config.lk_kernel
        if config.deployed_kernel is not None:
            outer = max(float(conv.window[1]) for conv in self.windows)
            if outer != 0.0:
                raise ValueError(
                    f"The window's outer factor is still {outer:g}: cropping to {config.deployed_kernel} x "
                    f"{config.deployed_kernel} would change the output. Anneal it to 0 first (model.anneal(0.0))."
                )
            kernel = config.deployed_kernel
        target = dataclasses.replace(
            config, fused="full", lk_kernel=kernel, sk_kernel=min(3, kernel), deployed_kernel=None
        )
        state = {k: v for k, v in self.state_dict().items() if not k.startswith(("layers.", "norm."))}
        if config.norm == "layer":
            state |= _channel_norm("norm.", self.norm)
        for name, block in self.named_modules(remove_duplicate=False):
            if isinstance(block, AetherBlock):
                state |= {f"{name}.{key}": value for key, value in _fold_block(block, fold_norms).items()}
        fused = FusedAetherNet(target, affine=not fold_norms)
        deployed(fused, state, self)
        return fused


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


class FusedAetherNet(ImageTail):
    """AetherNet after `fuse`: same input, same output (to float32 rounding), only nn.Conv2d carries weights."""

    repeated = (FusedAetherBlock,)

    def __init__(self, config: AetherNetConfig, *, affine: bool = False) -> None:
        if config.fused != "full" or config.deployed_kernel is not None:
            raise ValueError("FusedAetherNet takes a configuration with fused='full' and no window.")
        super().__init__(config)
        c = config.embed_dim
        self.conv_first = nn.Conv2d(config.in_chans, c, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(*(FusedAetherBlock(config, affine=affine) for _ in range(depth))) for depth in config.depths
        )
        # Its affine stays: a bias before a zero-padded 3x3 convolution does not fold exactly at the borders.
        self.norm = ChannelNorm(c, FINAL_NORM_EPS, affine=True) if config.norm == "layer" else nn.Identity()
        self.conv_after_body = nn.Conv2d(c, c, 3, padding=1)

    def upscale(self, image: Tensor) -> Tensor:
        """See `Upscaler.upscale`."""
        x = self.centre(image)
        first = self.conv_first(x)
        y = first
        for layer in self.layers:
            y = layer(y)
        return self.to_image(self.conv_after_body(self.norm(y)) + first, x)

    def float_layers(self) -> dict[str, str]:
        """See `Upscaler.float_layers`: the convolution that gives the image."""
        why = "its error goes straight into the image: 0.01 to 0.05 dB, and it takes no measurable time"
        return {"conv_last": why} if self.config.tail == "direct" else {}

    def equalisable(self) -> list[Scaling]:
        """See `Upscaler.equalisable`: the input of fc2, and without a layer norm the residual stream.

        The input of fc1 is not: a norm or a clamp lies before it, and makes its channels alike.
        """
        blocks = [m for m in self.modules() if isinstance(m, FusedAetherBlock)]
        # Of fc1 the second half: the gate's is not linear.
        found = [Scaling([b.ffn.fc1], [b.ffn.fc2], [b.ffn.fc2]) for b in blocks]
        if self.config.norm == "batch":
            last = self.conv_last
            if self.config.tail == "conv":
                last = self.conv_before_upsample[0]
                assert isinstance(last, nn.Conv2d)
            readers = [self.conv_after_body, *(b.conv for b in blocks)]
            # conv_after_body's output is added to conv_first's
            writers = [self.conv_first, *(b.ffn.fc2 for b in blocks), self.conv_after_body]
            found.append(Scaling(writers, [*readers, last], readers))
        return found


def _channel_norm(prefix: str, norm: nn.Module, *, affine: bool = True) -> dict[str, Tensor]:
    """The tensors of the ChannelNorm that a LayerNorm becomes."""
    assert isinstance(norm, nn.LayerNorm)
    state = {f"{prefix}eps": torch.tensor(norm.eps)}
    if affine:
        state |= {f"{prefix}weight": norm.weight.view(-1, 1, 1), f"{prefix}bias": norm.bias.view(-1, 1, 1)}
    return state


def _fold_block(block: AetherBlock, fold_norms: bool) -> dict[str, Tensor]:
    """The tensors of a block's deployed form, in float64."""
    block = copy.deepcopy(block).double()
    kernel, bias = block.conv.kernel_and_bias()
    ffn, norm = block.ffn, block.norm
    fc1 = torch.cat([ffn.fc1_gate.weight, ffn.fc1_main.weight])
    fc1_bias = torch.cat([ffn.fc1_gate.bias, ffn.fc1_main.bias])
    out: dict[str, Tensor] = {}
    if isinstance(norm, nn.LayerNorm):
        out = _channel_norm("norm.", norm, affine=not fold_norms)
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
