"""What the networks of this project's own forms have in common: their sizes, and the picture's border."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import AetherNetConfig, AetherTinyConfig

LARGEST_BORDER = 64
"""Pixels; the released networks have 2 and 4. A file with a huge one would fill memory at the first picture."""


class Upscaler(nn.Module):
    """Base of the networks: (N, in_chans, H, W) in [0, 1] -> (N, in_chans, scale*H, scale*W), not clamped.

    With `config.border`, the picture is continued by that many pixels (its edge repeated) and the result cropped.
    The convolutions' zero padding, which stands for a black or grey frame around the picture, is then that far away:
    saturated colours would else be off by several code values at the picture's border. Networks should be trained, or
    at least fine-tuned, with it: what they learn of zeros around their crops is lost otherwise.

    The buffer `border`, a single integer, marks the option in a state dict.
    """

    def __init__(self, config: AetherNetConfig | AetherTinyConfig) -> None:
        super().__init__()
        self.config = config
        if not 0 <= config.border <= LARGEST_BORDER:
            raise ValueError(f"border is {config.border}; it must be 0 or a number of pixels up to {LARGEST_BORDER}.")
        if config.border:
            self.register_buffer("border", torch.tensor(config.border))

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.config.scale

    @property
    def receptive_radius(self) -> int:
        """See `AetherNetConfig.receptive_radius`."""
        return self.config.receptive_radius

    def upscale(self, image: Tensor) -> Tensor:
        """The network itself, which pads with zeros."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        border = self.config.border
        if not border:
            return self.upscale(image)
        cut = slice(border * self.scale, -border * self.scale)
        return self.upscale(F.pad(image, [border] * 4, mode="replicate"))[:, :, cut, cut]
