"""aether_tiny: the real-time variant, built so that int8 keeps both its speed and its accuracy."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Upscaler
from .config import AetherTinyConfig
from .network import repeat_channels


class RepConv3x3(nn.Module):
    """Dense 3x3 convolution with linear training branches (Bhardwaj et al., SESR, 2022), merged in every pass.

    kernel = conv + project(expand), + identity in the body: `expand` is a 3x3 convolution to
    `expand` times the channels and `project` a 1x1 back. Training costs one plain convolution plus a few
    thousand multiplications for the merge.

    Shapes: (N, in_chans, H, W) -> (N, out_chans, H, W), zero padding.
    """

    def __init__(self, in_chans: int, out_chans: int, expand: int, *, identity: bool = False) -> None:
        super().__init__()
        wide = expand * max(in_chans, out_chans)
        self.identity = identity
        self.conv = nn.Conv2d(in_chans, out_chans, 3, padding=1)
        self.expand = nn.Conv2d(in_chans, wide, 3, bias=False)
        self.project = nn.Conv2d(wide, out_chans, 1, bias=False)
        # The identity already carries the signal: start the learnt part small beside it. Five times as much left
        # a quarter of the first layers' channels dead after training, and cost 0.14 dB after 1000 steps.
        small = 0.1 if self.identity else 1.0
        for m, gain in ((self.conv, small), (self.expand, 0.5), (self.project, min(small, 0.5))):
            if m.weight.is_meta:  # `inspect` builds there, where a normal draw imports torch's compiler for seconds
                continue
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            with torch.no_grad():
                m.weight *= gain
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """The one equivalent kernel (out_chans, in_chans, 3, 3) and its bias (out_chans,)."""
        assert self.conv.bias is not None
        merged = torch.einsum("om,mikl->oikl", self.project.weight[:, :, 0, 0], self.expand.weight)
        kernel = self.conv.weight + merged
        if self.identity:
            eye = torch.eye(kernel.shape[0], dtype=kernel.dtype, device=kernel.device)
            kernel = kernel + F.pad(eye[:, :, None, None], [1, 1, 1, 1])
        return kernel, self.conv.bias

    def forward(self, x: Tensor) -> Tensor:
        kernel, bias = self.kernel_and_bias()
        return F.conv2d(x, kernel, bias, padding=1)


class AetherTiny(Upscaler):
    """(N, in_chans, H, W) in [0, 1] -> (N, in_chans, scale*H, scale*W), not clamped.

    conv_first, `depth` - 2 body convolutions, each followed by max(., floor), conv_last, plus the input's
    channels repeated (nearest-neighbour residual), PixelShuffle.

    `floors` (fused form only) is the lower limit of each activation: 0, which fusing gives, is ReLU.
    """

    config: AetherTinyConfig
    floors: Tensor

    def __init__(self, config: AetherTinyConfig) -> None:
        super().__init__(config)
        if config.depth < 3 or config.embed_dim < 1 or config.scale < 1:
            raise ValueError(f"{config} cannot be built: depth >= 3, embed_dim >= 1 and scale >= 1 are needed.")
        self.config = config
        c, out = config.embed_dim, config.in_chans * config.scale**2
        fused = config.fused == "full"

        def conv(i: int, o: int, *, identity: bool = False) -> nn.Module:
            return nn.Conv2d(i, o, 3, padding=1) if fused else RepConv3x3(i, o, config.expand, identity=identity)

        self.conv_first = conv(config.in_chans, c)
        self.blocks = nn.ModuleList(conv(c, c, identity=True) for _ in range(config.depth - 2))
        self.conv_last = conv(c, out)
        if fused:
            self.register_buffer("floors", torch.zeros(config.depth - 1))
        else:
            assert isinstance(self.conv_last, RepConv3x3)
            nn.init.zeros_(self.conv_last.conv.weight)
            nn.init.zeros_(self.conv_last.project.weight)

    @torch.no_grad()
    def deepened(self, depth: int) -> AetherTiny:
        """A copy with `depth` convolutions in all that computes the same: the new ones are the identity.

        They follow the present body, whose ReLU makes them exact (Chen et al., Net2Net, 2016), and train from there.
        Raises ValueError for a smaller depth and for the fused form, which does not train.
        """
        if depth < self.config.depth or self.config.fused != "none":
            raise ValueError(f"{self.config} cannot be deepened to {depth}: it takes the training form, and no less.")
        deeper = AetherTiny(dataclasses.replace(self.config, depth=depth))
        deeper.load_state_dict(self.state_dict(), strict=False)
        for block in deeper.blocks[len(self.blocks) :]:
            assert isinstance(block, RepConv3x3)
            nn.init.zeros_(block.conv.weight)
            nn.init.zeros_(block.project.weight)
        return deeper.train(self.training)

    def activate(self, x: Tensor, index: int) -> Tensor:
        """max(x, floors[index]); ReLU in the training form."""
        return F.relu(x) if self.config.fused == "none" else torch.maximum(x, self.floors[index])

    def upscale(self, image: Tensor) -> Tensor:
        """See `Upscaler.upscale`."""
        x = image - 0.5
        y = self.activate(self.conv_first(x), 0)
        for i, block in enumerate(self.blocks, 1):
            y = self.activate(block(y), i)
        y = self.conv_last(y) + repeat_channels(x, self.config.scale**2)
        return F.pixel_shuffle(y, self.config.scale) + 0.5
