"""What spandrel's tests share: AetherNets of every form, and AetherNet in spandrel's registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import arch

from .. import nets

OPTIONS: dict[str, Any] = {
    "norm": "batch",
    "gate": "relu",
    "deployed_kernel": 5,
    "image_residual": True,
    "tail": "direct",
}

# name: configuration, and whether `arch.fuse` deploys it
CASES: dict[str, tuple[arch.Config, bool]] = {
    "tiny": (nets.tiny(), False),
    "tiny_fused": (nets.tiny(), True),
    "tiny_gray_border": (nets.tiny(scale=3, in_chans=1, border=2), True),
    "public": (nets.net(scale=4), False),
    "public_fused": (nets.net(scale=4, fused="kernel"), False),
    "public_deployed": (nets.net(scale=1), True),
    "options": (nets.net(**OPTIONS), False),
    "options_fused": (nets.net(**OPTIONS, border=3), True),
    "gray": (nets.net(scale=8, in_chans=1), False),
    "rgba": (nets.net(in_chans=4, image_residual=True), True),
    "later": (nets.later(), False),
    "later_fused": (nets.later(scale=3, fused="kernel", norm="layer", spatial_attention=True), False),
    "later_deployed": (nets.later(scale=4, channel_attention=True, spatial_attention=True), True),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `model` gets one network of each form."""
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", list(CASES), indirect=True)


def network(name: str) -> nn.Module:
    """The network of a case, with random weights, in eval mode."""
    config, deployed = CASES[name]
    return arch.fuse(nets.built(config)) if deployed else nets.built(config)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> nn.Module:
    return network(request.param)


@pytest.fixture
def every_form() -> Callable[[], Iterator[nn.Module]]:
    """Generates AetherNets of all options in every form, each as it is and deployed: some hundreds, all shallow."""

    def generate() -> Iterator[nn.Module]:
        for config in nets.table():
            model = config.build()
            yield model
            if model.windows:
                model.anneal(0.0)
            yield arch.fuse(model)

    return generate


@pytest.fixture(autouse=True)
def _installed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arch.install(ignore_duplicates=True)
