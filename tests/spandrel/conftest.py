"""What spandrel's tests share: AetherNets of every form, and crops of a photograph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arch

from .. import nets

Build = Callable[[], nn.Module]


def net(scale: int, form: str, in_chans: int = 3, **options: Any) -> nn.Module:
    """A shallow AetherNet; its form is "none", "kernel" (the public fused one) or "full" (`arch.fuse`)."""
    model = arch.AetherNet(
        in_chans, 12, (2, 1), 1.5, lk_kernel=7, sk_kernel=3, upscale=scale, fused_init=form == "kernel", **options
    )
    if options.get("deployed_kernel"):
        model.anneal(0.0)
    return arch.fuse(model) if form == "full" else model


def later(scale: int, form: str, in_chans: int = 3, **options: Any) -> nn.Module:
    """A shallow net of the later layout, form as above."""
    fused = "kernel" if form == "kernel" else "none"
    model = arch.AetherNetLaterConfig(
        16, (1, 2), 24, 5, 3, scale=scale, in_chans=in_chans, fused=fused, **options
    ).build()
    return arch.fuse(model) if form == "full" else model


def tiny(scale: int, form: str, in_chans: int = 3, **options: Any) -> nn.Module:
    model = arch.aether_tiny(scale, in_chans=in_chans, embed_dim=8, depth=4, **options)
    return arch.fuse(model) if form == "full" else model


# One of each form and option with random weights, for tests that run the network.
CASES: dict[str, Build] = {
    "tiny": lambda: tiny(2, "none"),
    "tiny_fused": lambda: tiny(2, "full"),
    "tiny_gray_border": lambda: tiny(3, "full", 1, border=2),
    "public": lambda: net(4, "none"),
    "public_fused": lambda: net(4, "kernel"),
    "public_deployed": lambda: net(1, "full"),
    "options": lambda: net(2, "none", norm="batch", gate="relu", deployed_kernel=5, image_residual=True, tail="direct"),
    "options_fused": lambda: net(
        2, "full", norm="batch", gate="relu", deployed_kernel=5, image_residual=True, tail="direct", border=3
    ),
    "gray": lambda: net(8, "none", 1),
    "rgba": lambda: net(2, "full", 4, image_residual=True),
    "later": lambda: later(2, "none"),
    "later_fused": lambda: later(3, "kernel", norm="layer", spatial_attention=True),
    "later_deployed": lambda: later(4, "full", channel_attention=True, spatial_attention=True),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `model` gets one network of each form, in eval mode."""
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", list(CASES), indirect=True)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return nets.randomise(CASES[request.param]())


@pytest.fixture
def every_form() -> Callable[[], Iterator[nn.Module]]:
    """Generates AetherNets of all options, scales and forms: about a thousand, all shallow."""

    def generate() -> Iterator[nn.Module]:
        for scale, form in itertools.product(nets.SCALES, ("none", "kernel", "full")):
            for options in nets.combinations(nets.OPTIONS):
                if not (form == "kernel" and options["deployed_kernel"]):  # the public fused form has no window
                    yield net(scale, form, **options)
            for options in nets.combinations(nets.LATER):
                yield later(scale, form, **options)
        for scale, form, border in itertools.product((1, 2, 3, 4), ("none", "full"), (0, 3)):
            yield tiny(scale, form, border=border)
        for in_chans, build in itertools.product((1, 4), (net, later, tiny)):
            yield build(2, "none", in_chans)
            yield build(2, "full", in_chans)

    return generate


@pytest.fixture(autouse=True)
def _installed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arch.install(ignore_duplicates=True)


@pytest.fixture(scope="session")
def images() -> Path:
    """The folder of bundled photographs."""
    return nets.images_dir()


@pytest.fixture
def photo() -> Callable[..., Tensor]:
    """photo(height, width, channels, name) -> (1, channels, height, width) in [0, 1], the middle at half size."""
    return nets.photo
