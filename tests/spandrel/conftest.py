"""What spandrel's tests share: AetherNets of every form, and crops of a photograph."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import arch

Build = Callable[[], nn.Module]

# The options of each form, combined freely below.
NET_OPTIONS = {
    "norm": ("layer", "batch"),
    "gate": ("gelu", "relu"),
    "deployed_kernel": (None, 5),
    "image_residual": (False, True),
    "tail": ("conv", "direct"),
    "border": (0, 3),
}
LATER_OPTIONS = {"norm": ("batch", "layer"), "channel_attention": (False, True), "spatial_attention": (False, True)}
SCALES = (1, 2, 3, 4, 8)


def combinations(options: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))


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


def fill_(name: str, tensor: Tensor) -> None:
    """Random values that keep the signal's size from layer to layer; markers stay as they are."""
    if not tensor.is_floating_point() or name.endswith((".eps", ".window", "mean", "floors")):
        return
    if name.endswith("running_var"):
        tensor.uniform_(0.3, 2.0)
    elif "norm" in name and name.endswith("weight"):
        tensor.uniform_(0.7, 1.3)
    elif name.endswith("weight") and tensor.ndim > 1:
        # The last convolution gives an image in about [0, 1].
        tensor.normal_(0, (0.1 if "conv_last" in name else 1.0) / math.sqrt(tensor[0].numel()))
    elif name.endswith("bias"):
        tensor.normal_(0, 0.1)


def randomise(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            fill_(name, tensor)
    return model.eval()


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
    return randomise(CASES[request.param]())


@pytest.fixture
def every_form() -> Callable[[], Iterator[nn.Module]]:
    """Generates AetherNets of all options, scales and forms: about a thousand, all shallow."""

    def generate() -> Iterator[nn.Module]:
        for scale, form in itertools.product(SCALES, ("none", "kernel", "full")):
            for options in combinations(NET_OPTIONS):
                if not (form == "kernel" and options["deployed_kernel"]):  # the public fused form has no window
                    yield net(scale, form, **options)
            for options in combinations(LATER_OPTIONS):
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
    """The folder of bundled photographs, found beside the package that holds them, which is not imported."""
    spec = find_spec("export")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "images"


@pytest.fixture
def photo(images: Path) -> Callable[..., Tensor]:
    """photo(height, width, channels, name) -> (1, channels, height, width) in [0, 1], the middle at half size."""

    def crop(height: int, width: int, channels: int = 3, name: str = "photo_budgie_branch.webp") -> Tensor:
        with Image.open(images / name) as file:
            picture = file.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
        left, top = max(0, picture.width // 2 - width), max(0, picture.height // 2 - height)
        pixels = np.asarray(picture)[top : top + 2 * height : 2, left : left + 2 * width : 2]
        planes = pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)
        return torch.from_numpy(planes.astype(np.float32) / 255)[None]

    return crop
