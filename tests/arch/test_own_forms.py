"""This project's own forms (options, deployed form, aether_tiny) against plain re-statements of what they mean."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import arch
from arch.tiny import RepConv3x3

Randomise = Callable[[nn.Module], nn.Module]
State = dict[str, Tensor]


def conv(state: State, name: str, x: Tensor, groups: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=groups)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=eps).permute(0, 3, 1, 2)


def nearest(image: Tensor, scale: int) -> Tensor:
    return image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def deployed_net(state: State, image: Tensor, scale: int) -> Tensor:
    """The fully fused form, told by its keys alone."""
    state = {key: value.double() for key, value in state.items()}
    x = image.double() - 0.5
    first = y = conv(state, "conv_first", x)
    for name in sorted({".".join(k.split(".")[:3]) for k in state if k.startswith("layers.")}):
        z = conv(state, f"{name}.conv", y, groups=y.shape[1])
        # of a batch norm, the clamp is left
        z = layer_norm(z, 1e-6) if f"{name}.norm.eps" in state else z.clamp(-4, 4)
        hidden = state[f"{name}.ffn.fc2.weight"].shape[1]
        z = conv(state, f"{name}.ffn.fc1", z)
        gate, main = z[:, :hidden], z[:, hidden:]
        gate = gate.clamp(min=0) if f"{name}.ffn.relu_gate" in state else F.gelu(gate)
        y = y + conv(state, f"{name}.ffn.fc2", gate * main)
    if "norm.eps" in state:
        y = layer_norm(y, 1e-5) * state["norm.weight"] + state["norm.bias"]
    y = conv(state, "conv_after_body", y) + first
    if "conv_before_upsample.0.weight" in state:
        y = F.leaky_relu(conv(state, "conv_before_upsample.0", y), 0.01)
        for index, factor in {1: [], 2: [(0, 2)], 3: [(0, 3)], 4: [(0, 2), (2, 2)]}[scale]:
            y = F.pixel_shuffle(conv(state, f"upsample.{index}", y), factor)
        y = conv(state, "conv_last", y)
    else:
        y = F.pixel_shuffle(conv(state, "conv_last", y), scale)
    if "image_residual" in state:
        y = y + nearest(x, scale)
    return y + 0.5


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("norm", "gate", "residual", "tail"),
    list(itertools.product(("layer", "batch"), ("gelu", "relu"), (False, True), ("conv", "direct"))),
)
def test_deployed_form(norm: Any, gate: Any, residual: bool, tail: Any, scale: int, randomise: Randomise) -> None:
    config = arch.AetherNetConfig(
        12, (1, 2), 18, 5, 3, scale=scale, norm=norm, gate=gate, image_residual=residual, tail=tail, fused="full"
    )
    model = randomise(config.build())
    image = torch.rand(2, 3, 9, 7)
    with torch.inference_mode():
        assert (model(image) - deployed_net(model.state_dict(), image, scale)).abs().max() <= 1e-5


@pytest.mark.parametrize("gate", ["gelu", "relu"])
def test_batch_norm_block_is_its_formula(gate: Any, randomise: Randomise) -> None:
    """x + fc2(act(fc1_gate(n)) * fc1_main(n)), n the batch norm (eps 1e-6) of the depthwise convolution, within +-4."""
    model = randomise(arch.AetherNet(3, 6, (1,), lk_kernel=5, norm="batch", gate=gate))
    assert isinstance(model, arch.AetherNet)
    block = model.layers[0][0]  # pyright: ignore[reportIndexIssue]
    s = block.state_dict()
    x = 4 * torch.randn(2, 6, 8, 8)
    y = F.conv2d(x, s["conv.lk_conv.weight"] + F.pad(s["conv.sk_conv.weight"], [1] * 4), padding=2, groups=6)
    y = y + (s["conv.lk_bias"] + s["conv.sk_bias"]).view(-1, 1, 1)
    mean, variance, weight, bias = (
        s[f"norm.{k}"].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    y = (y - mean) / torch.sqrt(variance + 1e-6) * weight + bias
    assert y.abs().max() > 4
    y = y.clamp(-4, 4)
    channels_last = y.permute(0, 2, 3, 1)
    g = channels_last @ s["ffn.fc1_gate.weight"].T + s["ffn.fc1_gate.bias"]
    m = channels_last @ s["ffn.fc1_main.weight"].T + s["ffn.fc1_main.bias"]
    g = F.relu(g) if gate == "relu" else F.gelu(g)
    expected = x + ((g * m) @ s["ffn.fc2.weight"].T + s["ffn.fc2.bias"]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        assert (block(x) - expected).abs().max() <= 1e-5


def test_training_convolution_of_tiny_is_its_three_branches() -> None:
    for in_chans, out_chans, identity in ((6, 6, True), (6, 6, False), (3, 6, False)):
        module = RepConv3x3(in_chans, out_chans, expand=2, identity=identity)
        x = torch.randn(2, in_chans, 7, 9)
        expected = module.conv(x)
        expected = expected + F.conv2d(F.conv2d(x, module.expand.weight, padding=1), module.project.weight)
        if identity:
            expected = expected + x
        assert (module(x) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_tiny(scale: int, randomise: Randomise) -> None:
    """Convolutions with max(., floor) between, plus nearest-neighbour scaling."""
    model = randomise(arch.AetherTinyConfig(8, 5, 0, scale=scale, fused="full").build())
    state = model.state_dict()
    state["floors"].copy_(torch.tensor([0.0, -0.1, -0.5, -0.2]))
    model.load_state_dict(state)
    image = torch.rand(2, 3, 9, 7)
    y = image - 0.5
    for index, name in enumerate(("conv_first", "blocks.0", "blocks.1", "blocks.2")):
        y = conv(state, name, y).clamp(min=float(state["floors"][index]))
    expected = F.pixel_shuffle(conv(state, "conv_last", y), scale) + nearest(image, scale)
    with torch.inference_mode():
        assert (model(image) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_untrained_nets_with_an_image_residual_give_nearest_neighbour_scaling(scale: int) -> None:
    image = torch.rand(2, 3, 5, 6)
    for model in (
        arch.aether_tiny(scale),
        arch.AetherNet(3, 8, (1,), upscale=scale, image_residual=True),
        arch.AetherNet(3, 8, (1,), upscale=scale, image_residual=True, tail="direct", gate="relu"),
    ):
        with torch.inference_mode():
            assert (model.eval()(image) - nearest(image, scale)).abs().max() <= 1e-6


def test_tiny_is_built_for_int8() -> None:
    """Dense 3x3 convolutions, channels in multiples of 16 inside, 80 to 180 thousand MAC per input pixel."""
    fused = arch.fuse(arch.aether_tiny())
    assert isinstance(fused, arch.FusedAetherTiny)
    convs = [m for m in fused.modules() if isinstance(m, nn.Conv2d)]
    assert {(m.kernel_size, m.groups) for m in convs} == {((3, 3), 1)}
    assert all(m.out_channels % 16 == 0 for m in convs[:-1])
    assert 80_000 <= sum(m.weight.numel() for m in convs) <= 180_000
    assert all(isinstance(m, nn.Conv2d | nn.ModuleList | arch.FusedAetherTiny) for m in fused.modules())


def test_a_batch_norm_net_stays_bounded_on_any_picture() -> None:
    """A gated net is quadratic in every block: without the clamp these weights make 1e20 of a strong picture."""
    model = arch.AetherNet(3, 16, (8, 8, 8), lk_kernel=3, norm="batch", gate="relu").eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".ffn." in name or ".norm." in name:
                value.mul_(10)
    picture = (torch.rand(1, 3, 16, 16) > 0.5).float()
    with torch.inference_mode():
        assert model(picture).abs().max() < 1e7
        assert arch.fuse(model)(picture).abs().max() < 1e7


def test_a_deepened_tiny_computes_the_same(randomise: Randomise) -> None:
    net = randomise(arch.aether_tiny(2, embed_dim=16, depth=4, border=2)).eval()
    assert isinstance(net, arch.AetherTiny)
    image = torch.rand(1, 3, 20, 17)
    deeper = net.deepened(7)
    with torch.no_grad():
        assert float((deeper(image) - net(image)).abs().max()) < 1e-6
    assert deeper.receptive_radius == 7
    with pytest.raises(ValueError, match="cannot be deepened to 3"):
        net.deepened(3)
