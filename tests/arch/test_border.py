"""The option `border`: pictures are continued by their edge, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import arch

Randomise = Callable[[nn.Module], nn.Module]
NETS: dict[str, Callable[..., Any]] = {
    "tiny": lambda border, scale: arch.aether_tiny(scale, embed_dim=8, depth=4, border=border),
    "public": lambda border, scale: arch.AetherNet(3, 8, (1, 1), lk_kernel=5, upscale=scale, border=border),
    "own": lambda border, scale: arch.AetherNet(
        3, 8, (1,), lk_kernel=5, upscale=scale, norm="batch", gate="relu", tail="direct", border=border
    ),
}


def pair(name: str, scale: int, border: int, randomise: Randomise) -> tuple[nn.Module, nn.Module]:
    """The same weights without and with the option, in eval mode."""
    plain = randomise(NETS[name](0, scale)).eval()
    bordered = NETS[name](border, scale).eval()
    bordered.load_state_dict({**plain.state_dict(), "border": torch.tensor(border)})
    return plain, bordered


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("scale", "border"), [(1, 1), (2, 4), (3, 2)])
def test_it_is_edge_padding_and_a_crop(name: str, scale: int, border: int, randomise: Randomise) -> None:
    plain, bordered = pair(name, scale, border, randomise)
    cut = border * scale
    for height, width in ((9, 14), (1, 1)):
        image = torch.rand(2, 3, height, width)
        padded = np.pad(image.numpy(), ((0, 0), (0, 0), (border, border), (border, border)), "edge")
        with torch.inference_mode():
            expected = plain(torch.from_numpy(padded))[:, :, cut:-cut, cut:-cut]
            result = bordered(image)
            assert result.shape == (2, 3, scale * height, scale * width)
            assert torch.equal(result, expected)
            assert (arch.fuse(bordered)(image) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", NETS)
def test_it_changes_the_border_alone(name: str, randomise: Randomise) -> None:
    plain, bordered = pair(name, 2, 3, randomise)
    radius: Any = plain.receptive_radius
    size = 2 * radius + 8
    image = torch.rand(1, 3, size, size)
    with torch.inference_mode():
        difference = (plain(image) - bordered(image)).abs()
    inner = slice(2 * radius, -2 * radius)
    assert difference[:, :, inner, inner].max() <= 1e-6
    assert difference.max() > 1e-4


@pytest.mark.parametrize("name", NETS)
def test_training_is_no_different(name: str, randomise: Randomise) -> None:
    _, bordered = pair(name, 2, 3, randomise)
    image = torch.rand(2, 3, 12, 12)
    expected = bordered(image)
    bordered.train()
    for module in bordered.modules():
        if isinstance(module, (arch.DropPath, nn.BatchNorm2d)):
            module.eval()
    assert torch.equal(bordered(image), expected)


@pytest.mark.parametrize("value", [torch.tensor(0), torch.tensor(-1), torch.tensor(2.0), torch.tensor([2])])
def test_damaged_marker(value: Tensor) -> None:
    for name in NETS:
        state = {**NETS[name](1, 2).state_dict(), "border": value}
        with pytest.raises(arch.CheckpointError, match=r"border is .*; a single positive integer was expected"):
            arch.inspect(state)


def test_a_border_that_would_fill_memory() -> None:
    for model in (arch.aether_tiny(2, embed_dim=8, depth=3, border=1), arch.AetherNet(3, 8, (1,), border=1)):
        state = model.state_dict() | {"border": torch.tensor(10**6)}
        with pytest.raises(arch.CheckpointError, match=r"border is 1000000.*up to"):
            arch.inspect(state)


def test_negative_border() -> None:
    for name in NETS:
        with pytest.raises(ValueError, match="border is -1"):
            NETS[name](-1, 2)
