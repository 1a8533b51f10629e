"""Descriptors: what spandrel's users see of each network, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import nn

import arch

from .conftest import CASES, network

# purpose, scale, channels, whether float16 is promised, tiling, tags
FACTS: dict[str, tuple[str, int, int, bool, str, str]] = {
    "tiny": ("SR", 2, 3, True, "SUPPORTED", "tiny, 8nf, 4nb"),
    "tiny_fused": ("SR", 2, 3, True, "SUPPORTED", "tiny, 8nf, 4nb, fused"),
    "tiny_gray_border": ("SR", 3, 1, True, "SUPPORTED", "tiny, 8nf, 4nb, border 2, fused"),
    "public": ("SR", 4, 3, False, "SUPPORTED", "12nf, 3nb, 7x7"),
    "public_fused": ("SR", 4, 3, False, "SUPPORTED", "12nf, 3nb, 7x7, fused"),
    "public_deployed": ("Restoration", 1, 3, False, "SUPPORTED", "12nf, 3nb, 7x7, fused"),
    "options": (
        *("SR", 2, 3, True, "SUPPORTED"),
        "12nf, 3nb, 7x7, batch norm, relu gate, deployed kernel 5, image residual, direct tail",
    ),
    "options_fused": (
        *("SR", 2, 3, True, "SUPPORTED"),
        "12nf, 3nb, 5x5, batch norm, relu gate, image residual, direct tail, border 3, fused",
    ),
    "gray": ("SR", 8, 1, False, "SUPPORTED", "12nf, 3nb, 7x7"),
    "rgba": ("SR", 2, 4, False, "SUPPORTED", "12nf, 3nb, 7x7, image residual, fused"),
    "later": ("SR", 2, 3, False, "SUPPORTED", "17nf, 3nb, 5x5"),
    "later_fused": ("SR", 3, 3, False, "SUPPORTED", "17nf, 3nb, 5x5, layer norm, spatial attention, fused"),
    # attention over the whole image: no tile gives what the whole does
    "later_deployed": ("SR", 4, 3, False, "DISCOURAGED", "17nf, 3nb, 5x5, channel attention, spatial attention, fused"),
}


@pytest.mark.parametrize("name", CASES)
def test_descriptor(name: str) -> None:
    """The same with what quantisation-aware training leaves beside each convolution, but for one tag more."""
    state = network(name).state_dict()
    names = [k.removesuffix(".weight") for k, v in state.items() if k.endswith(".weight") and v.ndim == 4]
    for kind in (None, "_amax", "_scale"):
        ranges = {f"{n}.{of}_quantizer.{kind}": torch.rand(()) for n in names for of in ("input", "weight") if kind}
        found = ModelLoader().load_from_state_dict(state | ranges)
        assert isinstance(found, ImageModelDescriptor)
        requirements = found.size_requirements
        purpose, scale, channels, half, tiling, tags = FACTS[name]
        assert (found.architecture.id, found.architecture.name) == ("AetherNet", "AetherNet")
        assert (found.purpose, found.scale, found.tiling.name) == (purpose, scale, tiling)
        assert (found.input_channels, found.output_channels) == (channels, channels)
        assert (found.supports_half, found.supports_bfloat16) == (half, False)
        assert (requirements.minimum, requirements.multiple_of, requirements.square) == (0, 1, False)
        assert found.tags == tags.split(", ") + ["QAT"] * bool(kind)
        assert found.model.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in found.model.state_dict().items())


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "large"])
def test_named_variants(size: str) -> None:
    def loaded(network: nn.Module) -> tuple[Any, list[str]]:
        found = ModelLoader().load_from_state_dict(network.state_dict())
        return found.model.config, found.tags

    build = getattr(arch, f"aether_{size}")
    unfused = build(4)
    for form in (unfused, arch.fuse(unfused)):
        config, tags = loaded(form)
        assert config == form.config
        assert tags[:2] == [size, f"{config.embed_dim}nf"] and ("fused" in tags) == (form is not unfused)
    if size != "tiny":
        config, tags = loaded(build(4, fused_init=True))  # the public fused form
        assert tags[0] == size and config.fused == "kernel"
        assert config.hidden / config.embed_dim == (2.5 if size == "large" else 2.0)
