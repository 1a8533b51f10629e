"""`arch.install`: in the manner of spandrel_extra_arches, and without a price for those who do not call it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from spandrel import MAIN_REGISTRY, DuplicateArchitectureError

import arch


def test_twice() -> None:
    """The fixture has installed it already."""
    before = MAIN_REGISTRY.architectures("detection")
    with pytest.raises(DuplicateArchitectureError, match="AetherNet"):
        arch.install()
    assert arch.install(ignore_duplicates=True) == []
    assert MAIN_REGISTRY.architectures("detection") == before


FIRST_TIME = """
import sys
import arch
assert "spandrel" not in sys.modules and "torchvision" not in sys.modules
from spandrel import MAIN_REGISTRY, ModelLoader
import spandrel_extra_arches
known = len(MAIN_REGISTRY)
assert "AetherNet" not in [support.architecture.id for support in MAIN_REGISTRY]
[added] = arch.install()
assert added.architecture.id == "AetherNet" and len(MAIN_REGISTRY) == known + 1
spandrel_extra_arches.install()
assert ModelLoader().load_from_state_dict(arch.aether_small().state_dict()).architecture is added.architecture
"""


def test_first_time_and_beside_the_extra_architectures() -> None:
    """In a process of its own, with the registry as spandrel ships it; spandrel is imported by `install` alone."""
    pytest.importorskip("spandrel_extra_arches", reason="spandrel_extra_arches is not installed")
    done = subprocess.run([sys.executable, "-c", FIRST_TIME], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
