"""The network as it is trained, and its fusing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..folding import channel_norm
from ..layers import Gate, Norm
from ..upscaler import deployed
from .block import AetherBlock, fold_block
from .config import AetherNetConfig, Tail
from .fused import FINAL_NORM_EPS, FusedAetherNet
from .tail import ImageTail


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
            state |= channel_norm("norm.", self.norm)
        for name, block in self.named_modules(remove_duplicate=False):
            if isinstance(block, AetherBlock):
                state |= {f"{name}.{key}": value for key, value in fold_block(block, fold_norms).items()}
        fused = FusedAetherNet(target, affine=not fold_norms)
        deployed(fused, state, self)
        return fused


AetherNetConfig.modules = {"none": AetherNet, "kernel": AetherNet, "full": FusedAetherNet}
