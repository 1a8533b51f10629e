"""AetherNet as it is trained: the first public layout (keys and forward pass), and this project's options."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Upscaler
from .config import AetherNetConfig, Tail, upsample_factors
from .layers import BATCH_NORM_LIMIT, DropPath, Gate, GatedFFN, Norm, ReparamLargeKernelConv

BLOCK_NORM_EPS = 1e-6
FINAL_NORM_EPS = 1e-5


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


class ImageTail(Upscaler):
    """The networks' last stage, features (N, C, H, W) and input image -> image (N, in_chans, s*H, s*W).

    tail "conv": Conv + LeakyReLU(0.01), [Conv, PixelShuffle]*, Conv at output resolution (public layout).
    tail "direct": one Conv to in_chans * s * s channels and PixelShuffle.
    The image residual is nearest-neighbour upscaling of the input, marked by the empty buffer `image_residual`.
    """

    config: AetherNetConfig

    def __init__(self, config: AetherNetConfig) -> None:
        super().__init__(config)
        self.config = config
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


def repeat_channels(x: Tensor, times: int) -> Tensor:
    """(N, C, H, W) -> (N, C * times, H, W), each channel `times` times in a row: PixelShuffle makes it nearest.

    Written as a concatenation of slices, which exports to one Concat instead of Expand and Reshape.
    """
    return torch.cat([x[:, c : c + 1] for c in range(x.shape[1]) for _ in range(times)], dim=1)


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
        if norm not in ("layer", "batch") or tail not in ("conv", "direct"):
            raise ValueError(f"norm is {norm!r}, tail is {tail!r}; allowed are layer|batch and conv|direct.")
        if not depths or min(depths) < 1:
            raise ValueError(f"depths is {tuple(depths)}; it must hold at least one positive number.")
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
        super().__init__(config)
        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        rates = [drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]
        self.layers = nn.ModuleList()
        for depth in depths:
            blocks = [AetherBlock(config, drop_rate, rates.pop(0)) for _ in range(depth)]
            self.layers.append(nn.Sequential(*blocks))
        if norm == "layer":
            self.norm = nn.LayerNorm(embed_dim, eps=FINAL_NORM_EPS)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self._init_weights()

    @classmethod
    def from_config(cls, config: AetherNetConfig, *, drop_path_rate: float = 0.0) -> AetherNet:
        """A network of this configuration (`fused` "none" or "kernel")."""
        if config.fused == "full":
            raise ValueError("A fully fused configuration builds a FusedAetherNet: use config.build().")
        return cls(
            in_chans=config.in_chans,
            embed_dim=config.embed_dim,
            depths=config.depths,
            mlp_ratio=(config.hidden + 0.5) / config.embed_dim,  # int() of the product gives `hidden` back
            drop_path_rate=drop_path_rate,
            lk_kernel=config.lk_kernel,
            sk_kernel=config.sk_kernel,
            upscale=config.scale,
            img_range=config.img_range,
            fused_init=config.fused == "kernel",
            norm=config.norm,
            gate=config.gate,
            deployed_kernel=config.deployed_kernel,
            image_residual=config.image_residual,
            tail=config.tail,
            border=config.border,
        )

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

    def anneal(self, outer: float) -> None:
        """Set the window of every large-kernel convolution: 1 = full kernel, 0 = the deployed kernel exactly."""
        for m in self.modules():
            if isinstance(m, ReparamLargeKernelConv):
                m.anneal(outer)

    def clear_cropped(self) -> None:
        """Zero the taps that a window at 0 has cropped, so that `anneal` can open it again on the same function."""
        for m in self.modules():
            if isinstance(m, ReparamLargeKernelConv):
                m.clear_cropped()

    def upscale(self, image: Tensor) -> Tensor:
        """See `Upscaler.upscale`."""
        x = self.centre(image)
        first = self.conv_first(x)
        y = first
        for layer in self.layers:
            y = layer(y)
        if self.config.norm == "layer":
            y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.to_image(self.conv_after_body(y) + first, x)
