"""Networks for tests: one table of shallow ones in every form, random weights that count, crops of a photograph."""

import itertools
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import arch

Net = TypeVar("Net", bound=nn.Module)
OPTIONS = {  # of AetherNet, combined freely
    "norm": ("layer", "batch"),
    "gate": ("gelu", "relu"),
    "deployed_kernel": (None, 5),
    "image_residual": (False, True),
    "tail": ("conv", "direct"),
    "border": (0, 3),
}
LATER = {"norm": ("batch", "layer"), "channel_attention": (False, True), "spatial_attention": (False, True)}
SCALES = (1, 2, 3, 4, 8)


def net(**options: Any) -> arch.AetherNetConfig:
    """A shallow AetherNet of the public layout."""
    sizes: dict[str, Any] = {"embed_dim": 12, "depths": (2, 1), "hidden": 18, "lk_kernel": 7, "sk_kernel": 3}
    return arch.AetherNetConfig(**(sizes | options))


def later(**options: Any) -> arch.AetherNetLaterConfig:
    """A shallow net of the later layout, of a width that its stages do not divide."""
    sizes: dict[str, Any] = {"embed_dim": 17, "depths": (1, 2), "hidden": 24, "lk_kernel": 5, "sk_kernel": 3}
    return arch.AetherNetLaterConfig(**(sizes | options))


def tiny(**options: Any) -> arch.AetherTinyConfig:
    """A shallow aether_tiny."""
    sizes: dict[str, Any] = {"embed_dim": 8, "depth": 4}
    return arch.AetherTinyConfig(**(sizes | options))


def combinations(options: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Every choice of one value for each option."""
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def table() -> list[arch.Config]:
    """Every combination of options in every unfused form, at scales and channels that take turns."""
    forms: list[arch.Config] = []
    scales, channels = itertools.cycle(SCALES), itertools.cycle((3, 3, 1, 4))
    for options in combinations(OPTIONS):
        forms.append(net(scale=next(scales), in_chans=next(channels), **options))
        if options["deployed_kernel"] is None:  # the public fused form has no window
            forms.append(net(scale=next(scales), in_chans=next(channels), fused="kernel", **options))
    for options, fused, _ in itertools.product(combinations(LATER), ("none", "kernel"), range(2)):
        forms.append(later(scale=next(scales), in_chans=next(channels), fused=fused, **options))
    for scale, border in itertools.product((1, 2, 3, 4), (0, 3)):
        forms.append(tiny(scale=scale, in_chans=next(channels), expand=1 + border, border=border))
    return forms


def built(config: arch.Config) -> arch.Upscaler:
    """A network with random weights, in eval mode, its window annealed."""
    model = randomise(config.build())
    if model.windows:
        model.anneal(0.0)
    return model


@torch.no_grad()
def randomise(model: Net) -> Net:
    """Fill weights and statistics in place, so that the signal keeps its size and 1e-5 is fair; markers stay."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 2.0)
        elif name.endswith("temperature"):
            tensor.uniform_(0.5, 1.5)
        elif "norm" in name and name.endswith("weight"):
            tensor.uniform_(0.7, 1.3)
        elif name.endswith("weight") and tensor.ndim > 1:
            # The last convolution gives an image in about [0, 1], the range in which 1e-5 is meant.
            tensor.normal_(0, (0.1 if "conv_last" in name else 1.0) / math.sqrt(tensor[0].numel()))
        elif name.endswith(("bias", "running_mean", "error_comp")):
            tensor.normal_(0, 0.1)
    return model.eval()


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts hold the same tensors of the same types under the same names."""
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) and v.dtype == b[k].dtype for k, v in a.items())


@lru_cache(maxsize=8)
def picture(name: str) -> Image.Image:
    """A picture bundled with the package export."""
    with Image.open(Path(__file__).parents[1] / "export" / "images" / name) as file:
        return file.convert("RGBA")


def photo(height: int, width: int, channels: int = 3, name: str = "photo_budgie_branch.webp") -> Tensor:
    """(1, channels, height, width) in [0, 1]: every second pixel from the middle, so that a few pixels hold edges."""
    whole = picture(name).convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
    left, top = max(0, whole.width // 2 - width), max(0, whole.height // 2 - height)
    pixels = np.asarray(whole)[top : top + 2 * height : 2, left : left + 2 * width : 2]
    planes = pixels.reshape(*pixels.shape[:2], channels).transpose(2, 0, 1)
    return torch.from_numpy(planes.astype(np.float32) / 255)[None]
