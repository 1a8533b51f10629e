"""Descriptors: what spandrel's users see of each network, written out by hand; and how AetherNet is installed."""

import subprocess
import sys

import pytest
import torch

from ..nets import same
from .conftest import CASES, describe, network


@pytest.mark.parametrize("name", CASES)
def test_descriptor(name: str) -> None:
    """The same with what quantisation-aware training leaves beside each convolution, but for one tag more."""
    state, (config, _, half, tags) = network(name).state_dict(), CASES[name]
    # attention over the whole image: no tile gives what the whole does
    tiling = "DISCOURAGED" if name == "later_deployed" else "SUPPORTED"
    names = [k.removesuffix(".weight") for k, v in state.items() if k.endswith(".weight") and v.ndim == 4]
    for kind in (None, "_amax", "_scale"):
        ranges = {f"{n}.{of}_quantizer.{kind}": torch.rand(()) for n in names for of in ("input", "weight") if kind}
        found = describe(state | ranges)
        requirements = found.size_requirements
        assert found.architecture.name == "AetherNet"
        assert found.purpose == ("Restoration" if name == "public_deployed" else "SR")
        assert (found.scale, found.tiling.name) == (config.scale, tiling)
        assert (found.input_channels, found.output_channels) == (config.in_chans, config.in_chans)
        assert (found.supports_half, found.supports_bfloat16) == (half, False)
        assert (requirements.minimum, requirements.multiple_of, requirements.square) == (0, 1, False)
        assert found.tags == tags.split(", ") + ["QAT"] * bool(kind)
        assert same(found.model.state_dict(), state)


FIRST_TIME = """
import sys
import arch
assert "spandrel" not in sys.modules and "torchvision" not in sys.modules
from contextlib import suppress
from spandrel import MAIN_REGISTRY, DuplicateArchitectureError, ModelLoader
import spandrel_extra_arches
known = len(MAIN_REGISTRY)
assert "AetherNet" not in [support.architecture.id for support in MAIN_REGISTRY]
[added] = arch.install()
assert added.architecture.id == "AetherNet" and len(MAIN_REGISTRY) == known + 1
with suppress(DuplicateArchitectureError):
    raise SystemExit(f"added twice: {arch.install()}")
assert arch.install(ignore_duplicates=True) == [] and len(MAIN_REGISTRY) == known + 1
spandrel_extra_arches.install()
assert ModelLoader().load_from_state_dict(arch.aether_small().state_dict()).architecture is added.architecture
"""


def test_first_time_twice_and_beside_the_extra_architectures() -> None:
    """In a process of its own, with the registry as spandrel ships it; spandrel is imported by `install` alone."""
    pytest.importorskip("spandrel_extra_arches", reason="spandrel_extra_arches is not installed")
    done = subprocess.run([sys.executable, "-c", FIRST_TIME], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
