"""`fuse`: the same function for every option, from an input it leaves alone."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arch

Randomise = Callable[[nn.Module], nn.Module]

OPTIONS = [
    {"norm": norm, "gate": gate, "deployed_kernel": deployed, "image_residual": residual, "tail": tail}
    for norm, gate, deployed, residual, tail in itertools.product(
        ("layer", "batch"), ("gelu", "relu"), (None, 5), (False, True), ("conv", "direct")
    )
]


def net(scale: int = 2, *, in_chans: int = 3, fused_init: bool = False, **options: Any) -> arch.AetherNet:
    return arch.AetherNet(
        in_chans, 12, (1, 2), 1.5, lk_kernel=9, sk_kernel=5, upscale=scale, fused_init=fused_init, **options
    )


def largest_difference(a: nn.Module, b: nn.Module, image: Tensor) -> float:
    with torch.inference_mode():
        return float((a(image) - b(image)).abs().max())


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_every_option_at_every_scale(
    options: dict[str, Any], randomise: Randomise, photo: Callable[..., Tensor]
) -> None:
    images = torch.cat([photo(13, 11, 3), torch.rand(2, 3, 13, 11)])
    for scale in (1, 2, 3, 4, 8):
        model = randomise(net(scale, **options))
        assert isinstance(model, arch.AetherNet)
        if options["deployed_kernel"]:
            model.anneal(0.0)
        fused = arch.fuse(model)
        assert isinstance(fused, arch.FusedAetherNet)
        assert not fused.training
        assert largest_difference(model, fused, images) <= 1e-5
        kernel = options["deployed_kernel"] or 9
        expected = dataclasses.replace(model.config, fused="full", lk_kernel=kernel, sk_kernel=3, deployed_kernel=None)
        assert fused.config == arch.inspect(fused.state_dict()) == expected
        assert fused.layers[0][0].conv.weight.shape[-1] == kernel  # pyright: ignore
        assert (fused.scale, fused.receptive_radius) == (scale, model.receptive_radius)


@pytest.mark.parametrize("in_chans", [1, 3, 4])
@pytest.mark.parametrize("fused_init", [False, True])
def test_channels_sizes_and_the_public_fused_form(in_chans: int, fused_init: bool, randomise: Randomise) -> None:
    model = randomise(net(3, in_chans=in_chans, fused_init=fused_init, image_residual=True))
    fused = arch.fuse(model)
    for height, width in ((1, 1), (1, 17), (16, 3), (9, 13)):
        image = torch.rand(2, in_chans, height, width)
        assert model(image).shape == (2, in_chans, 3 * height, 3 * width)
        assert largest_difference(model, fused, image) <= 1e-5


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_tiny(scale: int, in_chans: int, randomise: Randomise, photo: Callable[..., Tensor]) -> None:
    model = randomise(arch.aether_tiny(scale, in_chans=in_chans, embed_dim=16, depth=6))
    assert isinstance(model, arch.AetherTiny)
    fused = arch.fuse(model)
    assert isinstance(fused, arch.FusedAetherTiny)
    for image in (photo(13, 11, in_chans), torch.rand(3, in_chans, 5, 8)):
        assert largest_difference(model, fused, image) <= 1e-5
    assert arch.inspect(fused.state_dict()) == fused.config == dataclasses.replace(model.config, fused="full", expand=0)
    plain = {type(m) for m in fused.modules() if list(m.parameters(recurse=False))}
    assert plain == {nn.Conv2d}


MODELS: dict[str, Callable[[], nn.Module]] = {
    "layer": net,
    "batch": lambda: net(norm="batch", gate="relu", image_residual=True),
    "public fused": lambda: net(fused_init=True),
    "tiny": lambda: arch.aether_tiny(embed_dim=16, depth=4),
    "later": arch.AetherNetLaterConfig(16, (1, 2), 24, 7, 3, channel_attention=True, spatial_attention=True).build,
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_input_is_left_as_it_is(name: str, training: bool, randomise: Randomise) -> None:
    model = randomise(MODELS[name]()).train(training)
    identities = {key: (id(value), value.data_ptr(), value.dtype) for key, value in model.named_parameters()}
    values = copy.deepcopy(model.state_dict())
    image = torch.rand(1, 3, 8, 8)
    fused = arch.fuse(model)
    assert model.training is training
    assert all(m.training is training for m in model.modules())
    assert identities == {key: (id(value), value.data_ptr(), value.dtype) for key, value in model.named_parameters()}
    assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())
    before = fused(image)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(fused(image), before), "the fused net shares memory with the one it was made from"
    again = arch.fuse(fused)
    assert type(again) is type(fused)
    assert again is not fused
    assert torch.equal(again(image), before)


@pytest.mark.parametrize("name", MODELS)
def test_dtype_is_kept_and_sums_are_exact(name: str, randomise: Randomise) -> None:
    """A float64 net fuses to one that agrees far below float32's rounding: the algebra itself is exact."""
    model = randomise(MODELS[name]()).double()
    image = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    assert largest_difference(model, arch.fuse(model), image) <= 1e-12
    half = randomise(MODELS[name]()).to(torch.bfloat16)
    assert {p.dtype for p in arch.fuse(half).parameters()} == {torch.bfloat16}


def test_unannealed_window_is_refused(randomise: Randomise) -> None:
    model = randomise(net(deployed_kernel=5))
    assert isinstance(model, arch.AetherNet)
    for outer in (1.0, 0.5, 1e-3):
        model.anneal(outer)
        with pytest.raises(ValueError, match="Anneal it to 0 first"):
            arch.fuse(model)
    model.anneal(0.0)
    arch.fuse(model)


def test_other_modules_are_refused() -> None:
    with pytest.raises(TypeError, match="Conv2d was given"):
        arch.fuse(nn.Conv2d(3, 3, 3))
