"""The public layouts: the keys of their checkpoints, their widths, their initial weights and their versions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import arch

from ..nets import SCALES, built, later, photo
from ..reference import compare, later_shapes, public_shapes

PUBLIC: dict[str, Any] = {
    "aether_small": (96, (4,) * 4, 192, 11, 3),
    "aether_medium": (128, (6,) * 6, 256, 11, 3),
    "aether_large": (180, (8,) * 8, 450, 13, 3),
}
COUNTS = {  # thousands of weights at 2x, unfused and fused
    "aether_small": (1388.963, 1373.603),
    "aether_medium": (4554, 4508),
    "aether_large": (18270, 18150),
}
LATER: dict[str, Any] = {  # sizes, channel attention, spatial attention, residual scale
    "mobile": ((64, (2,) * 4, 96, 7, 3), False, False, 0.2),
    "tiny": ((64, (3,) * 3, 96, 13, 5), True, False, 0.2),
    "small": ((96, (4,) * 4, 144, 13, 5), True, False, 0.1),
    "medium": ((128, (6,) * 4, 192, 13, 5), True, False, 0.1),
    "large": ((180, (8,) * 5, 270, 13, 5), True, True, 0.1),
}
FORMS = pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])


def state_of(shapes: dict[str, tuple[int, ...]], scale: int) -> dict[str, Tensor]:
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    return state | ({"scale_tensor": torch.tensor(scale)} if "scale_tensor" in shapes else {})


@FORMS
@pytest.mark.parametrize("variant", PUBLIC)
def test_keys_of_the_public_checkpoints(variant: str, fused: bool) -> None:
    for scale in SCALES if variant == "aether_small" else (3,):
        shapes = public_shapes(PUBLIC[variant], scale, 3, fused=fused)
        form = "kernel" if fused else "none"
        config: Any = arch.inspect(state_of(shapes, scale))
        assert config == arch.AetherNetConfig(*PUBLIC[variant], scale=scale, fused=form)
        assert (config.variant, config.out_chans) == (variant, 3)
        with torch.device("meta"):
            model = getattr(arch, variant)(scale, fused_init=fused)
        assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes
        assert model.config == config
        assert model.receptive_radius == sum(config.depths) * (config.lk_kernel // 2) + 3 + (1 if scale == 1 else 2)
    shapes = public_shapes(PUBLIC[variant], 2, 3, fused=fused)
    exact = 1e-9 if variant == "aether_small" else 1e-3
    assert sum(map(math.prod, shapes.values())) == pytest.approx(COUNTS[variant][fused] * 1000, rel=exact)
    assert variant != "aether_small" or len(shapes) == (172 if fused else 204)


@FORMS
@pytest.mark.parametrize("name", LATER)
def test_keys_of_the_later_checkpoints(name: str, fused: bool) -> None:
    sizes, channel, spatial, res_scale = LATER[name]
    options = {"channel_attention": channel, "spatial_attention": spatial, "fused": "kernel" if fused else "none"}
    for scale in SCALES if name == "mobile" else (3,):
        config: Any = arch.inspect(state_of(later_shapes(sizes, scale, 3, channel, spatial, fused=fused), scale))
        expected: Any = (*sizes[:4], 3) if fused else sizes
        assert config == arch.AetherNetLaterConfig(*expected, scale=scale, **options)
        assert (config.variant, config.res_scale) == (f"aether_later_{name}", res_scale)


WIDTHS: list[Any] = [
    *(arch.AetherNetConfig(w, (1,) * len(d), *rest) for w, d, *rest in PUBLIC.values()),
    *(
        arch.AetherNetLaterConfig(w, (1,) * len(d), *rest, channel_attention=channel, spatial_attention=spatial)
        for (w, d, *rest), channel, spatial, _ in LATER.values()
    ),
]


@pytest.mark.parametrize("config", WIDTHS, ids=str)
def test_widths_of_the_public_networks(config: Any) -> None:
    """A block a stage."""
    compare(built(config), photo(16, 16))


def test_initial_weights_are_those_of_the_public_network() -> None:
    model = arch.aether_small()
    for name, value in model.state_dict().items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif "norm" in name:
            assert (value == 1).all(), name
        else:
            assert value.std() == pytest.approx(0.02, rel=0.2), name
    rates = [m.rate for m in model.modules() if isinstance(m, arch.DropPath)]
    assert rates == pytest.approx(torch.linspace(0, 0.1, 16).tolist())


def test_versions_of_the_later_layout() -> None:
    state = dict(later(scale=4).build().state_dict())
    versions = {"pt_version": torch.tensor([2, 7, 1]), "model_version": torch.tensor([3, 1, 1])}
    assert arch.inspect(state | versions) == arch.inspect(state)
    for version in ([3, 1, 0], [3, 2, 0], [1, 0, 0]):
        with pytest.raises(arch.CheckpointError, match=r"version \[\d, \d, 0\] of the public code"):
            arch.inspect(state | versions | {"model_version": torch.tensor(version)})
    with pytest.raises(arch.CheckpointError, match="scale_tensor is missing"):
        arch.inspect({("scale" if k == "scale_tensor" else k): v for k, v in state.items()})
    with pytest.raises(arch.CheckpointError, match=r"scale_tensor is 2.*scale 4"):
        arch.inspect(state | {"scale_tensor": torch.tensor(2)})


def test_loads_the_public_release_form(tmp_path: Path) -> None:
    """The public release script stores torch.__version__, a class of torch's own, beside the weights, in half."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in built(later(fused="kernel")).state_dict().items()}
    metadata = {"pt_version": torch.__version__, "scale": 2, "arch_config": {"depths": [2, 2, 2, 2]}}
    torch.save({"state_dict": state, "metadata": metadata}, tmp_path / "aether_mobile.pth")
    model = arch.load(tmp_path / "aether_mobile.pth")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    compare(model, torch.rand(1, 3, 8, 8))
