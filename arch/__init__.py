"""AetherNet: the network, its checkpoints and its fused form.

model = arch.load("aether_small_2x.safetensors")   # any known layout, .pth too
fused = arch.fuse(model)                           # deployed form, same output
"""

from .checkpoint import read_checkpoint, write_checkpoint
from .config import AetherNetConfig, AetherNetLaterConfig, AetherTinyConfig, Config
from .detect import inspect, load, split_ranges
from .errors import CheckpointError
from .fused import FusedAetherNet, fuse, shift_floors
from .later import AetherNetLater
from .layers import DropPath, GatedFFN, ReparamLargeKernelConv
from .network import AetherNet
from .tiny import AetherTiny
from .variants import aether_large, aether_medium, aether_small, aether_tiny

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
    "load",
    "read_checkpoint",
    "shift_floors",
    "split_ranges",
    "write_checkpoint",
]
