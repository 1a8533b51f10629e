"""The public layouts: the keys and shapes of their checkpoints, their initial weights and their versions."""

import dataclasses
import hashlib
import itertools
from typing import Any

import pytest
import torch

import arch
from arch.layers import DropPath

from ..nets import SCALES, later, same

NET, LATER = arch.AetherNetConfig, arch.AetherNetLaterConfig
CHANNEL: Any = {"channel_attention": True}
LAYOUTS: dict[str, tuple[Any, tuple[int, ...], str]] = {
    # configuration, scales, and SHA-256 of all keys and shapes that the public code has at these scales in both forms
    "aether_small": (NET(96, (4,) * 4, 192, 11, 3), SCALES, "474e4b92200f2bcc"),
    "aether_medium": (NET(128, (6,) * 6, 256, 11, 3), (3,), "1f0fc16808f1008a"),
    "aether_large": (NET(180, (8,) * 8, 450, 13, 3), (3,), "461db55534c53957"),
    "aether_later_mobile": (LATER(64, (2,) * 4, 96, 7, 3), SCALES, "87e1365aaea001cc"),
    "aether_later_tiny": (LATER(64, (3,) * 3, 96, 13, 5, **CHANNEL), (3,), "c7f90533b17308c3"),
    "aether_later_small": (LATER(96, (4,) * 4, 144, 13, 5, **CHANNEL), (3,), "c736260320f96435"),
    "aether_later_medium": (LATER(128, (6,) * 4, 192, 13, 5, **CHANNEL), (3,), "dd6cded6c3a2a16b"),
    "aether_later_large": (
        *(LATER(180, (8,) * 5, 270, 13, 5, spatial_attention=True, **CHANNEL), (3,)),
        "e911d9333326fc3d",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_of_the_public_checkpoints(name: str) -> None:
    config, scales, digest = LAYOUTS[name]
    found = hashlib.sha256()
    for scale, fused in itertools.product(scales, ("none", "kernel")):
        small = 3 if fused == "kernel" else config.sk_kernel  # merged for good
        form = dataclasses.replace(config, scale=scale, fused=fused, sk_kernel=small)
        with torch.device("meta"):
            model = form.build() if "later" in name else getattr(arch, name)(scale, fused_init=fused == "kernel")
        assert model.config == form
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        found.update(repr(sorted(shapes.items())).encode())
        state = {key: torch.zeros(shape) for key, shape in shapes.items()}
        state |= {"scale_tensor": torch.tensor(scale)} if "scale_tensor" in shapes else {}
        assert arch.inspect(state) == form
        assert (form.variant, form.out_chans) == (name, 3)
    if "later" in name:
        assert config.res_scale == (0.2 if name.endswith(("mobile", "tiny")) else 0.1)
    assert found.hexdigest()[:16] == digest


def test_initial_weights_are_those_of_the_public_network() -> None:
    model = arch.aether_small()
    for name, value in model.state_dict().items():
        if name.endswith("bias"):
            assert not value.any(), name
        elif "norm" in name:
            assert (value == 1).all(), name
        else:
            assert value.std() == pytest.approx(0.02, rel=0.2), name
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx(torch.linspace(0, 0.1, 16).tolist())


def test_versions_of_the_later_layout() -> None:
    state = dict(later(scale=4).build().state_dict())
    versions = {"pt_version": torch.tensor([2, 7, 1]), "model_version": torch.tensor([3, 1, 1])}
    assert same(arch.from_state_dict(state | versions).state_dict(), state)
    for version in ([3, 1, 0], [3, 2, 0], [1, 0, 0]):
        with pytest.raises(arch.CheckpointError, match=r"version \[\d, \d, 0\] of the public code"):
            arch.inspect(state | versions | {"model_version": torch.tensor(version)})
    with pytest.raises(arch.CheckpointError, match="scale_tensor is missing"):
        arch.inspect({("scale" if k == "scale_tensor" else k): v for k, v in state.items()})
    with pytest.raises(arch.CheckpointError, match=r"scale_tensor is 2.*scale 4"):
        arch.inspect(state | {"scale_tensor": torch.tensor(2)})
