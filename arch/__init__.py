"""AetherNet: the network, its checkpoints and its fused form.

model = arch.load("aether_small_2x.safetensors")   # any known layout, .pth too
fused = arch.fuse(model)                           # deployed form, same output
arch.install()                                     # spandrel, and what is built on it, loads AetherNet too
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checkpoint import read_checkpoint, write_checkpoint
from .config import AetherNetConfig, AetherNetLaterConfig, AetherTinyConfig, Config
from .detect import inspect, load, split_ranges
from .errors import CheckpointError
from .fused import FusedAetherNet, fuse
from .later import AetherNetLater
from .layers import DropPath, GatedFFN, ReparamLargeKernelConv
from .network import AetherNet
from .tiny import AetherTiny
from .variants import aether_large, aether_medium, aether_small, aether_tiny

if TYPE_CHECKING:
    from spandrel import ArchSupport

__all__ = [
    "AetherNet",
    "AetherNetConfig",
    "AetherNetLater",
    "AetherNetLaterConfig",
    "AetherTiny",
    "AetherTinyConfig",
    "CheckpointError",
    "Config",
    "DropPath",
    "FusedAetherNet",
    "GatedFFN",
    "ReparamLargeKernelConv",
    "aether_large",
    "aether_medium",
    "aether_small",
    "aether_tiny",
    "fuse",
    "inspect",
    "install",
    "load",
    "read_checkpoint",
    "split_ranges",
    "write_checkpoint",
]


def install(*, ignore_duplicates: bool = False) -> list[ArchSupport]:
    """Register AetherNet in spandrel's MAIN_REGISTRY, and return what was added; spandrel is imported only here.

    Afterwards `spandrel.ModelLoader` loads every checkpoint that `arch.inspect` knows, in any of spandrel's file
    types. A second call raises spandrel.DuplicateArchitectureError, unless `ignore_duplicates`: then it adds nothing.
    """
    from . import spandrel_support

    return spandrel_support.install(ignore_duplicates=ignore_duplicates)
