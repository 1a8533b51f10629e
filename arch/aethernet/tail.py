"""The last stage, which both forms share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import repeat_channels, upsample_factors
from ..upscaler import Upscaler
from .config import AetherNetConfig


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
