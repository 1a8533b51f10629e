"""Small networks with weights that do something, and one image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import arch
from export import pictures


def _wake(model: nn.Module) -> nn.Module:
    """Give every zero or constant tensor random values, so that nothing in the network is an identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.is_floating_point() and value.ndim and "window" not in name:
                value.add_(0.02 * torch.randn(value.shape, generator=generator))
    return model.eval()


torch.set_num_threads(1)  # these networks are too small for more


@pytest.fixture(scope="session")
def tiny() -> arch.AetherTiny:
    """An aether_tiny of 4 layers and 16 channels, as trained."""
    torch.manual_seed(0)
    model = _wake(arch.aether_tiny(2, embed_dim=16, depth=4, border=2))
    assert isinstance(model, arch.AetherTiny)
    return model


@pytest.fixture(scope="session")
def small() -> arch.AetherNet:
    """A shallow net of small_2x's form: batch norm, ReLU gate, 5x5 deployed kernel, image residual, direct tail."""
    torch.manual_seed(0)
    model = arch.AetherNet(
        3, 16, (1, 1), norm="batch", gate="relu", deployed_kernel=5, image_residual=True, tail="direct", border=3
    )
    model.anneal(0.0)
    _wake(model)
    return model


@pytest.fixture(scope="session")
def public() -> arch.AetherNet:
    """A shallow net of the public form: layer norm, GELU gate, 11x11 kernel, convolutional tail."""
    torch.manual_seed(0)
    model = arch.AetherNet(3, 16, (1, 1))
    _wake(model)
    return model


@pytest.fixture(scope="session")
def later() -> nn.Module:
    """A shallow net of the later layout, with spatial attention, whose fused features have a range of several units."""
    torch.manual_seed(0)
    model = arch.AetherNetLaterConfig(16, (1, 1, 1), 24, 5, 3, spatial_attention=True).build()
    _wake(model)
    with torch.no_grad():
        for conv in model.fusion_convs:
            assert isinstance(conv, nn.Conv2d)
            conv.weight.mul_(4)
    return model


@pytest.fixture(scope="session")
def images() -> list[Tensor]:
    """Three LR images (1, 3, 48, 48) in [0, 1]."""
    return [lr[:, :, :48, :48].contiguous() for lr, _ in pictures.evaluation(2, 3)[:3]]
