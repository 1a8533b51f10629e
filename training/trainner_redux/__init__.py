"""AetherNet in traiNNer-redux: python -m training.trainner_redux [train|test] [--root TRAINNER] -opt CONFIG.yml"""

from __future__ import annotations

from training import launch
from training.networks import factories


def register() -> None:
    """Put aether_tiny, aether_small, aether_medium and aether_large into traiNNer-redux's registry.

    Calling it again does no harm. Raises training.launch.RegistrationError where traiNNer-redux has another network
    of one of these names.
    """
    from traiNNer.utils.registry import ARCH_REGISTRY  # pyright: ignore[reportMissingImports]

    launch.register(ARCH_REGISTRY, factories())
