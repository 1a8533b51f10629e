"""The deployed form, which `fuse` makes and the engines hold."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import ChannelNorm
from ..upscaler import Scaling
from .block import FusedAetherBlock
from .config import AetherNetConfig
from .tail import ImageTail

FINAL_NORM_EPS = 1e-5


class FusedAetherNet(ImageTail):
    """AetherNet after `fuse`: same input, same output (to float32 rounding), only nn.Conv2d carries weights."""

    repeated = (FusedAetherBlock,)

    def __init__(self, config: AetherNetConfig, *, affine: bool = False) -> None:
        if config.deployed_kernel is not None:
            raise ValueError("FusedAetherNet takes a configuration with no window.")
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
