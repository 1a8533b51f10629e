"""AetherNet: the first public layout (keys and forward pass), with this project's options."""

from .block import AetherBlock, FusedAetherBlock
from .config import SIZES, AetherNetConfig, Tail
from .fused import FusedAetherNet
from .network import AetherNet
from .tail import ImageTail

__all__ = [
    "SIZES",
    "AetherBlock",
    "AetherNet",
    "AetherNetConfig",
    "FusedAetherBlock",
    "FusedAetherNet",
    "ImageTail",
    "Tail",
]
