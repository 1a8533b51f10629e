"""The later public layout (keys `stages.*`, version 3.1.1 of the public code), for inference and export.

It differs from AetherNet in its normalisation (batch-norm like), SiLU gates with a temperature, attention after
the gated net, a scaled residual, and the fusion of all stages' features before the last norm.
"""

from .config import AetherNetLaterConfig
from .network import AetherNetLater, FusedAetherNetLater

__all__ = ["AetherNetLater", "AetherNetLaterConfig", "FusedAetherNetLater"]
