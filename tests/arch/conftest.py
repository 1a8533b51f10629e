"""What the network's tests share: crops of a photograph, and random weights that keep the signal's size."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def _picture() -> Image.Image:
    """One of the bundled photographs, found beside the package that holds them, which is not imported."""
    spec = find_spec("export")
    assert spec is not None
    assert spec.origin is not None
    with Image.open(Path(spec.origin).parent / "images" / "photo_budgie_branch.webp") as file:
        return file.convert("RGB")


def _photo(height: int, width: int, channels: int) -> Tensor:
    """Every second pixel from the middle of the photograph: detail enough for a few pixels to hold edges."""
    picture = _picture().convert("L" if channels == 1 else "RGB")
    left, top = picture.width // 2 - width, picture.height // 2 - height
    pixels = np.asarray(picture)[top : top + 2 * height : 2, left : left + 2 * width : 2]
    planes = pixels.reshape(height, width, channels).transpose(2, 0, 1)
    return torch.from_numpy(planes.astype(np.float32) / 255)[None]


@pytest.fixture
def photo() -> Callable[[int, int, int], Tensor]:
    """photo(height, width, channels) -> (1, channels, height, width) in [0, 1], 1 channel (gray) or 3."""
    return _photo


def fill_(name: str, tensor: Tensor) -> None:
    """Random values that keep the signal's size from layer to layer, so that 1e-5 is a fair tolerance."""
    if not tensor.is_floating_point():
        return
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


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """randomise(model) fills every weight and statistic in place, and returns the model in eval mode."""

    def fill(model: nn.Module) -> nn.Module:
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                fill_(name, tensor)
        return model.eval()

    return fill
