"""The later public layout."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .config import AetherNetLaterConfig


class AetherNetLater(nn.Module):
    def __init__(self, config: AetherNetLaterConfig) -> None:
        raise NotImplementedError


def fuse_later(model: AetherNetLater) -> AetherNetLater:
    raise NotImplementedError


def inspect_later(state: Mapping[str, Tensor]) -> AetherNetLaterConfig:
    raise NotImplementedError
