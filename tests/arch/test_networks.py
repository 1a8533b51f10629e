"""Every form of every network: inspect = build = load = fuse = radius = border, and the formulas restated."""

import copy
import dataclasses
import itertools
from typing import Any

import pytest
import torch
from torch import nn

import arch
import presets
from arch.layers import ChannelNorm, ReparamLargeKernelConv
from arch.tiny import FusedAetherTiny
from arch.upscaler import Upscaler

from ..nets import built, later, net, photo, randomise, same, table, tiny
from ..reference import compare, restated

TABLE = table()
IMAGES = itertools.cycle([(5, 6), (1, 11), (7, 3)])
FORMS: dict[str, arch.Config] = {
    "layer": net(),
    "batch": net(norm="batch", gate="relu", image_residual=True, tail="direct"),
    "public fused": net(fused="kernel"),
    "later": later(embed_dim=33, channel_attention=True, spatial_attention=True),
    "later layer": later(norm="layer"),
    "tiny": tiny(),
}


def reach(model: Upscaler, size: int) -> int:
    """The largest distance (max-norm, in input pixels) between a changed input pixel and an output it changes."""
    model, scale, centre = copy.deepcopy(model).double(), model.scale, size // 2
    image = torch.rand(1, model.config.in_chans, size, size, dtype=torch.float64)
    changed = image.clone()
    changed[..., centre, centre] += 0.25
    with torch.inference_mode():
        difference = (model(image) - model(changed))[0].abs().amax(0)
    rows, columns = torch.nonzero(difference, as_tuple=True)
    return int(max((rows // scale - centre).abs().max(), (columns // scale - centre).abs().max()))


@pytest.mark.parametrize(("config", "size"), list(zip(TABLE, IMAGES, strict=False)), ids=str)
def test_every_form(config: Any, size: tuple[int, int]) -> None:
    state = built(config).state_dict()
    model = arch.from_state_dict(state)
    assert model.config == config and same(model.state_dict(), state)
    fused = compare(model, torch.cat([photo(*size, config.in_chans), torch.rand(1, config.in_chans, *size)]))
    assert (fused.training, fused.config.fused) == (False, "full")
    assert fused.config == arch.inspect(fused.state_dict()) and fused.receptive_radius == model.receptive_radius
    shared = {"embed_dim", "depths", "depth", "hidden", "scale", "in_chans", "norm", "tail", "border", "gate"}
    assert all(getattr(fused.config, n) == getattr(config, n) for n in shared if hasattr(config, n))
    owners = {type(m) for m in fused.modules() if list(m.parameters(recurse=False))}
    assert owners <= {nn.Conv2d, ChannelNorm}
    assert nn.Conv2d in owners and (ChannelNorm in owners) == (getattr(config, "norm", "batch") == "layer")


KERNELS = [(3, 1, 1), (3, 3, 3), (5, 3, 5), (7, 1, 3), (7, 5, 5), (9, 3, 7), (11, 3, 5), (11, 5, 11), (13, 1, 9)]


@pytest.mark.parametrize(("large", "small", "deployed"), KERNELS)
def test_odd_widths_kernels_and_windows(large: int, small: int, deployed: int) -> None:
    """At every width of the window the network is its formula; at 0 the small kernel runs, and alone learns."""
    width = large + small + 5  # 9 to 21, of which 16 divides none
    model = randomise(net(embed_dim=width, lk_kernel=large, sk_kernel=small, deployed_kernel=deployed).build())
    image = photo(10, 9)
    for outer in (1.0, 0.25, 1e-6, 0.0):
        model.anneal(outer)
        with torch.inference_mode():
            assert (model(image) - restated(model, image)).abs().max() <= 1e-5
    compare(model, image)
    conv = model.get_submodule("layers.0.0.conv")
    assert isinstance(conv, ReparamLargeKernelConv)
    assert conv.kernel_and_bias()[0].shape == (width, 1, deployed, deployed)
    model(image).square().sum().backward()
    gradient, edge = conv.lk_conv.weight.grad, (large - deployed) // 2
    assert gradient is not None and gradient.any()
    assert not gradient[:, :, :edge].any() and not gradient[..., :edge].any()


@pytest.mark.parametrize("gate", ["gelu", "relu"])
def test_beyond_the_clamp(gate: Any) -> None:
    """Without it a gated net, quadratic in every block, would make 1e20 of a strong picture."""
    model = built(net(norm="batch", gate=gate, lk_kernel=3, tail="direct"))
    model.get_parameter("conv_last.weight").data.mul_(0.05)  # 1e-5 is meant for a picture
    largest: list[float] = []
    for name, module in model.named_modules():
        if name.endswith(".norm"):
            module.get_parameter("weight").data.mul_(6)
            module.register_forward_hook(lambda _, __, out: largest.append(float(out.abs().max())))
    compare(model, (torch.rand(1, 3, 12, 12) > 0.5).float())
    assert len(largest) == 3 and min(largest) > 5


@pytest.mark.parametrize("config", TABLE[::7], ids=str)
def test_the_receptive_radius_is_the_reach(config: Any) -> None:
    model = built(config)
    radius = config.receptive_radius
    if radius is None:
        assert config.channel_attention
        assert reach(model, 41) == 20, "attention pools the whole image"
        return
    assert reach(model, 2 * radius + 3) == radius == reach(arch.fuse(model), 2 * radius + 3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_fusing_leaves_its_input_alone(name: str, training: bool) -> None:
    model = built(FORMS[name]).train(training)
    identities = {key: (id(value), value.data_ptr(), value.dtype) for key, value in model.named_parameters()}
    values, image = copy.deepcopy(model.state_dict()), torch.rand(1, 3, 8, 8)
    fused = arch.fuse(model)
    assert all(m.training is training for m in model.modules())
    assert identities == {key: (id(value), value.data_ptr(), value.dtype) for key, value in model.named_parameters()}
    assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())
    before = fused(image)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(fused(image), before), "the fused net shares memory with the one it was made from"
    again = arch.fuse(fused)
    assert type(again) is type(fused) and again is not fused
    assert torch.equal(again(image), before)


@pytest.mark.parametrize("name", FORMS)
def test_the_algebra_is_exact_and_no_tensor_is_lost_in_it(name: str) -> None:
    """Each changes the deployed form as it changes the network, and the dtype is kept."""
    model = built(FORMS[name]).double()
    state, image = copy.deepcopy(model.state_dict()), torch.rand(1, 3, 7, 7, dtype=torch.float64)
    with torch.inference_mode():
        before = arch.fuse(model)(image)
        assert (before - model(image)).abs().max() <= 1e-12
        assert (model.fuse(fold_norms=False)(image) - before).abs().max() <= 1e-12
        for key, value in state.items():
            if not value.is_floating_point() or not value.numel() or key == "mean":
                continue
            model.load_state_dict(state | {key: value * 1.5 + 0.01})
            after = arch.fuse(model)(image)
            assert (after - before).abs().max() > 1e-9, key
            assert (after - model(image)).abs().max() <= 1e-11, key
    assert {p.dtype for p in arch.fuse(model.to(torch.bfloat16)).parameters()} == {torch.bfloat16}


def test_what_cannot_be_fused() -> None:
    model = randomise(net(deployed_kernel=5).build())
    for outer in (1.0, 0.5, 1e-3):
        model.anneal(outer)
        with pytest.raises(ValueError, match="Anneal it to 0 first"):
            arch.fuse(model)
    with pytest.raises(TypeError, match="Conv2d was given"):
        arch.fuse(nn.Conv2d(3, 3, 3))


@pytest.mark.parametrize(
    "config", [net(in_chans=1), net(in_chans=4), net(), later(), later(norm="layer", fused="kernel")], ids=str
)
def test_img_range_is_the_callers_to_say(config: Any) -> None:
    model = arch.from_state_dict(built(config).state_dict(), img_range=2.0)
    assert model.config == dataclasses.replace(config, img_range=2.0)
    compare(model, 2 * torch.rand(1, config.in_chans, 7, 9))


@pytest.mark.parametrize("fused", ["none", "kernel"])
def test_norms_of_small_signals(fused: Any) -> None:
    """With a signal of 1e-3, the norms' eps (1e-6 in blocks, 1e-5 at the end) decide the output."""
    model = built(net(fused=fused))
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.startswith("conv_first") or ".fc2." in key:
                value.mul_(1e-3)
    compare(model, torch.rand(1, 3, 9, 9))


def test_a_released_network_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model = arch.load("tiny_2x")
    assert (model.config.variant, model.config.fused) == ("aether_tiny", "none")
    assert arch.inspect(arch.read_checkpoint(presets.path("tiny_2x", "notfused"))) == model.config
    with pytest.raises(arch.CheckpointError, match="no such file"):
        arch.load("tiny_9x")
    monkeypatch.setattr(presets, "load", lambda name: {"files": {"notfused": {"file": "x", "sha256": ""}}})
    with pytest.raises(presets.PresetError, match="tiny_2x"):
        arch.load("tiny_2x")


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_untrained_nets_with_an_image_residual_give_nearest_neighbour_scaling(scale: int) -> None:
    image = torch.rand(2, 3, 5, 6)
    direct = net(scale=scale, image_residual=True, tail="direct", gate="relu")
    for config in (tiny(scale=scale), net(scale=scale, image_residual=True), direct):
        with torch.inference_mode():
            nearest = nn.functional.interpolate(image, scale_factor=scale)
            assert (config.build().eval()(image) - nearest).abs().max() <= 1e-6


def test_floors_of_a_fused_tiny() -> None:
    model = built(tiny(expand=0, depth=5, fused="full"))
    model.get_buffer("floors").copy_(torch.tensor([0.0, -0.1, -0.5, -0.2]))
    compare(model, torch.rand(2, 3, 9, 7))


def test_tiny_is_built_for_int8() -> None:
    """Dense 3x3 convolutions, channels in multiples of 16 inside, 80 to 180 thousand MAC per input pixel."""
    fused = arch.fuse(arch.aether_tiny())
    convs = [m for m in fused.modules() if isinstance(m, nn.Conv2d)]
    assert {(m.kernel_size, m.groups) for m in convs} == {((3, 3), 1)}
    assert all(m.out_channels % 16 == 0 for m in convs[:-1])
    assert 80_000 <= sum(m.weight.numel() for m in convs) <= 180_000
    assert all(isinstance(m, nn.Conv2d | nn.ModuleList | FusedAetherTiny) for m in fused.modules())


def test_a_deepened_tiny_computes_the_same() -> None:
    model = built(tiny(embed_dim=16, border=2))
    assert isinstance(model, arch.AetherTiny)
    image, deeper = torch.rand(1, 3, 20, 17), model.grown(tiny(embed_dim=16, depth=7))
    with torch.no_grad():
        assert float((deeper(image) - model(image)).abs().max()) < 1e-6
    assert deeper.receptive_radius == 7
    assert model.grown(tiny(depth=3)) is model
    with pytest.raises(ValueError, match="cannot be deepened to 3"):
        model.deepened(3)
