"""AetherNet: the network, its checkpoints and its fused form.

model = arch.load("small_2x")                      # a released one, or a file: any known layout, .pth too
fused = arch.fuse(model)                           # deployed form, same output
arch.install()                                     # spandrel, and what is built on it, loads AetherNet too
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .aethernet import AetherNet, AetherNetConfig
from .checkpoint import write_checkpoint
from .errors import CheckpointError
from .keys import split_ranges
from .later import AetherNetLaterConfig
from .registry import from_state_dict, inspect, load, read_checkpoint
from .tiny import AetherTiny, AetherTinyConfig
from .upscaler import Config, Upscaler, fuse
from .variants import VARIANTS, aether_large, aether_medium, aether_small, aether_tiny

if TYPE_CHECKING:
    from spandrel import ArchSupport

__all__ = [
    "VARIANTS",
    "AetherNet",
    "AetherNetConfig",
    "AetherNetLaterConfig",
    "AetherTiny",
    "AetherTinyConfig",
    "CheckpointError",
    "Config",
    "Upscaler",
    "aether_large",
    "aether_medium",
    "aether_small",
    "aether_tiny",
    "from_state_dict",
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
