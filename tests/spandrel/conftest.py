"""What spandrel's tests share: AetherNets of every form, and AetherNet in spandrel's registry."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import nn

import arch

from .. import nets

OPTIONS: dict[str, Any] = {"norm": "batch", "gate": "relu", "image_residual": True, "tail": "direct"}
TAGS = "batch norm, relu gate, {}image residual, direct tail"

# name: configuration, whether `arch.fuse` deploys it, whether float16 is promised, and its tags
CASES: dict[str, tuple[arch.Config, bool, bool, str]] = {
    "tiny": (nets.tiny(), False, True, "tiny, 8nf, 4nb"),
    "tiny_fused": (nets.tiny(), True, True, "tiny, 8nf, 4nb, fused"),
    "tiny_gray_border": (nets.tiny(scale=3, in_chans=1, border=2), True, True, "tiny, 8nf, 4nb, border 2, fused"),
    "public": (nets.net(scale=4), False, False, "12nf, 3nb, 7x7"),
    "public_fused": (nets.net(scale=4, fused="kernel"), False, False, "12nf, 3nb, 7x7, fused"),
    "public_deployed": (nets.net(scale=1), True, False, "12nf, 3nb, 7x7, fused"),
    "options": (
        *(nets.net(**OPTIONS, deployed_kernel=5), False, True),
        f"12nf, 3nb, 7x7, {TAGS.format('deployed kernel 5, ')}",
    ),
    "options_fused": (
        *(nets.net(**OPTIONS, deployed_kernel=5, border=3), True, True),
        f"12nf, 3nb, 5x5, {TAGS.format('')}, border 3, fused",
    ),
    "gray": (nets.net(scale=8, in_chans=1), False, False, "12nf, 3nb, 7x7"),
    "rgba": (nets.net(in_chans=4, image_residual=True), True, False, "12nf, 3nb, 7x7, image residual, fused"),
    "later": (nets.later(), False, False, "17nf, 3nb, 5x5"),
    "later_fused": (
        *(nets.later(scale=3, fused="kernel", norm="layer", spatial_attention=True), False, False),
        "17nf, 3nb, 5x5, layer norm, spatial attention, fused",
    ),
    "later_deployed": (
        *(nets.later(scale=4, channel_attention=True, spatial_attention=True), True, False),
        "17nf, 3nb, 5x5, channel attention, spatial attention, fused",
    ),
}


def network(name: str) -> nn.Module:
    """The network of a case, with random weights, in eval mode."""
    config, deployed, *_ = CASES[name]
    return arch.fuse(nets.built(config)) if deployed else nets.built(config)


def describe(source: nn.Module | Mapping[str, Any] | Path) -> ImageModelDescriptor[nn.Module]:
    """What spandrel makes of a network, of a state dict, or of a file."""
    loader = ModelLoader()
    if isinstance(source, Path):
        found = loader.load_from_file(source)
    else:
        found = loader.load_from_state_dict(dict(source.state_dict() if isinstance(source, nn.Module) else source))
    assert isinstance(found, ImageModelDescriptor) and found.architecture.id == "AetherNet"
    return found


@pytest.fixture(autouse=True)
def _installed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arch.install(ignore_duplicates=True)
