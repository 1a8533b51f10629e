"""AetherNet in neosr: python -m training.neosr [train|test] [--root NEOSR] -opt CONFIG.toml"""

from __future__ import annotations

from training import launch
from training.networks import factories


def register() -> None:
    """Put aether_tiny, aether_small, aether_medium and aether_large into neosr's registry.

    Their scale is that of neosr's configuration, unless [network_g] gives one. Calling it again does no harm.
    Raises training.launch.RegistrationError where neosr has another network of one of these names.
    """
    from neosr.utils.registry import ARCH_REGISTRY  # pyright: ignore[reportMissingImports]

    launch.register(ARCH_REGISTRY, factories(_scale))


def _scale() -> int:
    from neosr.archs.arch_util import net_opt  # pyright: ignore[reportMissingImports]

    scale, _ = net_opt()
    return scale
