"""Equalisation changes channels' ranges, and nothing of the function."""

import copy

import pytest
import torch
from torch import Tensor, nn

import arch
from arch.aethernet import FusedAetherBlock
from arch.layers import FusedGatedFFN
from export.equalise import equalise
from export.quantizer import calibrate, quantize


def spread(model: nn.Module, name: str, image: Tensor) -> float:
    """Largest over smallest range of the channels that a convolution reads; channels that are always 0 apart."""
    seen: list[Tensor] = []
    with torch.no_grad(), model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        model(image)
    amax = seen[0].abs().amax((0, 2, 3))
    return float(amax.max() / amax[amax > 0].min())


@pytest.mark.parametrize("net", ["small", "public", "tiny"])
def test_the_function_stays(net: str, images: list[Tensor], request: pytest.FixtureRequest) -> None:
    fused = arch.fuse(request.getfixturevalue(net))
    with torch.no_grad():
        assert torch.allclose(equalise(fused, images, 1.0)(images[0]), fused(images[0]), atol=2e-6)


def test_the_function_stays_where_the_clamp_is_reached(small: arch.Upscaler, images: list[Tensor]) -> None:
    fused, picture = copy.deepcopy(arch.fuse(small)).double(), images[0].double()
    reached = []
    with torch.no_grad():
        for block in fused.modules():
            if isinstance(block, FusedAetherBlock):
                block.conv.weight[::2] *= 60
                block.norm.register_forward_hook(lambda _, __, out: reached.append(bool((out.abs() == 4).any())))
        wanted = fused(picture)
        assert reached == [True, True]
        pale = [0.5 + 0.1 * (picture - 0.5)]  # ranges chosen where the clamp is not reached
        assert torch.allclose(equalise(fused, pale, 1.0)(picture), wanted, atol=1e-9)


def test_channels_become_alike(small: arch.Upscaler, images: list[Tensor]) -> None:
    fused = arch.fuse(small)
    name = "conv_after_body"  # reads the residual stream
    before = spread(fused, name, images[0])
    assert before > 1.3
    half, full = (spread(equalise(fused, images[:1], s), name, images[0]) for s in (0.5, 1.0))
    assert full < half < before


def test_an_outlier_channel_no_longer_costs_accuracy(small: arch.Upscaler, images: list[Tensor]) -> None:
    fused = copy.deepcopy(arch.fuse(small))
    name = "layers.0.0.ffn.fc2"
    ffn = fused.get_submodule("layers.0.0.ffn")
    assert isinstance(ffn, FusedGatedFFN)
    with torch.no_grad():  # the same function with one channel of the product 50 times as large
        hidden = ffn.fc2.in_channels
        assert ffn.fc1.bias is not None
        ffn.fc1.weight[hidden] *= 50
        ffn.fc1.bias[hidden] *= 50
        ffn.fc2.weight[:, 0] /= 50
        wanted = fused(images[0])
        errors = []
        for model in (fused, equalise(fused, images)):
            others = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and n != name]
            quantized = quantize(model, skip=others)
            calibrate(quantized, images, "max")
            errors.append(float((quantized(images[0]) - wanted).square().mean()))
    assert errors[1] < 0.1 * errors[0]
