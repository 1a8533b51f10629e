"""`receptive_radius`: no pixel farther away matters, and one at that distance does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import arch

Randomise = Callable[[nn.Module], nn.Module]


def reach(model: nn.Module, scale: int, size: int) -> int:
    """The largest distance (max-norm, in input pixels) between a changed input pixel and an output it changes."""
    model = model.double()
    image = torch.rand(1, 3, size, size, dtype=torch.float64)
    centre = size // 2
    changed = image.clone()
    changed[..., centre, centre] += 0.25
    with torch.inference_mode():
        difference = (model(image) - model(changed))[0].abs().amax(0)
    # Pixel p of the output lies in pixel p // scale of the input.
    rows, columns = torch.nonzero(difference, as_tuple=True)
    return int(max((rows // scale - centre).abs().max(), (columns // scale - centre).abs().max()))


def small(scale: int, **options: Any) -> arch.AetherNet:
    model = arch.AetherNet(3, 8, (1, 1), 1.5, lk_kernel=7, sk_kernel=3, upscale=scale, **options)
    if model.config.deployed_kernel:
        model.anneal(0.0)
    return model


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tail": "direct", "image_residual": True},
        {"tail": "direct", "border": 2},
        {"norm": "batch", "deployed_kernel": 5},
        {"tail": "direct", "deployed_kernel": 3, "gate": "relu"},
    ],
)
def test_aether_net(scale: int, options: dict[str, Any], randomise: Randomise) -> None:
    model = randomise(small(scale, **options))
    assert isinstance(model, arch.AetherNet)
    radius = model.config.receptive_radius
    assert reach(model, scale, 2 * radius + 3) == radius
    assert reach(arch.fuse(model), scale, 2 * radius + 3) == radius == arch.fuse(model).receptive_radius


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_tiny(scale: int, randomise: Randomise) -> None:
    model = randomise(arch.aether_tiny(scale, embed_dim=16, depth=5))
    assert model.receptive_radius == 5
    assert reach(model, scale, 21) == 5


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("spatial", [False, True])
def test_later(scale: int, spatial: bool, randomise: Randomise) -> None:
    config = arch.AetherNetLaterConfig(8, (1, 1), 12, 5, 3, scale=scale, spatial_attention=spatial)
    model = randomise(config.build())
    radius = config.receptive_radius
    assert radius is not None
    assert reach(model, scale, 2 * radius + 3) == radius


def test_channel_attention_reaches_everything(randomise: Randomise) -> None:
    config = arch.AetherNetLaterConfig(8, (1,), 12, 3, 3, channel_attention=True)
    assert config.receptive_radius is None
    assert reach(randomise(config.build()), 2, 41) == 20


def test_named_variants() -> None:
    for name, radius in {"small": 16 * 5 + 5, "medium": 36 * 5 + 5, "large": 64 * 6 + 5}.items():
        with torch.device("meta"):
            assert getattr(arch, f"aether_{name}")(2).receptive_radius == radius
    deployed = arch.aether_small(2, deployed_kernel=5, norm="batch", tail="direct")
    assert deployed.receptive_radius == 16 * 2 + 3
