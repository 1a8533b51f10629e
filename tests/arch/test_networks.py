"""Every form of every network: inspect = build = load = fuse = radius = border, and the formulas restated."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arch
from arch.layers import ChannelNorm
from arch.upscaler import Upscaler

from ..nets import SCALES, built, later, net, photo, randomise, table, tiny
from ..reference import forward, later_shapes, nearest, public_shapes

TABLE = table()
FORMS: dict[str, arch.Config] = {
    "layer": net(),
    "batch": net(norm="batch", gate="relu", image_residual=True, tail="direct"),
    "public fused": net(fused="kernel"),
    "later": later(embed_dim=47, channel_attention=True, spatial_attention=True),
    "later layer": later(norm="layer"),
    "tiny": tiny(),
}


def restated(model: Upscaler, image: Tensor) -> Tensor:
    config: Any = model.config
    other = {"res_scale": getattr(config, "res_scale", 1.0), "img_range": getattr(config, "img_range", 1.0)}
    return forward(dict(model.state_dict()), image, config.scale, **other)


def compare(model: Upscaler, image: Tensor) -> None:
    """The network and its deployed form give what the formulas say of the one's and of the other's state dict."""
    fused = arch.fuse(model)
    with torch.inference_mode():
        expected = restated(model, image)
        assert expected.std() > 0.02, "the weights give a flat image and test nothing"
        size = (image.shape[2] * model.scale, image.shape[3] * model.scale)
        assert expected.shape == (len(image), image.shape[1], *size)
        for output in (model(image), fused(image), restated(fused, image)):
            assert (output - expected).abs().max() <= 1e-5


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


@pytest.mark.parametrize("config", TABLE, ids=str)
def test_every_form(config: Any, tmp_path: Path) -> None:
    model = built(config)
    assert model.config == arch.inspect(model.state_dict()) == config
    arch.write_checkpoint(model.state_dict(), tmp_path / "net.safetensors")
    loaded = arch.load(tmp_path / "net.safetensors")
    image = torch.cat([photo(9, 7, config.in_chans), torch.rand(1, config.in_chans, 9, 7)])
    compare(loaded, image)
    fused = arch.fuse(model)
    assert (fused.training, fused.config.fused) == (False, "full")
    assert fused.config == arch.inspect(fused.state_dict())
    assert fused.receptive_radius == model.receptive_radius
    shared = {"embed_dim", "depths", "depth", "hidden", "scale", "in_chans", "norm", "tail", "border", "gate"}
    assert all(getattr(fused.config, n) == getattr(config, n) for n in shared if hasattr(config, n))
    owners = {type(m) for m in fused.modules() if list(m.parameters(recurse=False))}
    assert owners <= {nn.Conv2d, ChannelNorm}
    assert nn.Conv2d in owners and (ChannelNorm in owners) == (getattr(config, "norm", "batch") == "layer")


@pytest.mark.parametrize("config", TABLE[::7], ids=str)
def test_the_receptive_radius_is_the_reach(config: Any) -> None:
    model = built(config)
    radius = config.receptive_radius
    if radius is None:
        assert config.channel_attention
        assert reach(model, 41) == 20, "attention pools the whole image"
        return
    assert reach(model, 2 * radius + 3) == radius == reach(arch.fuse(model), 2 * radius + 3)


@pytest.mark.parametrize("config", [net(border=4), net(norm="batch", tail="direct", border=2), tiny(border=3)], ids=str)
def test_a_border_changes_the_border_alone(config: Any) -> None:
    bordered = built(config)
    plain = dataclasses.replace(config, border=0).build().eval()
    plain.load_state_dict({k: v for k, v in bordered.state_dict().items() if k != "border"})
    radius = config.receptive_radius
    image = torch.rand(1, 3, 2 * radius + 8, 2 * radius + 8)
    with torch.inference_mode():
        difference = (plain(image) - bordered(image)).abs()
        assert bordered(torch.rand(2, 3, 1, 1)).shape == (2, 3, 2, 2)
    inner = slice(2 * radius, -2 * radius)
    assert difference[:, :, inner, inner].max() <= 1e-6
    assert difference.max() > 1e-4


@pytest.mark.parametrize(
    "config", [net(border=3), net(norm="batch", tail="direct", border=2), tiny(border=3), later()], ids=str
)
def test_training_computes_the_same_but_for_what_is_random(config: Any) -> None:
    model = built(config)
    image = torch.rand(2, 3, 12, 12)
    expected = model(image)
    model.train()
    for module in model.modules():
        if isinstance(module, (arch.DropPath, nn.BatchNorm2d)):
            module.eval()
    assert torch.equal(model(image), expected)


@pytest.mark.parametrize("sizes", [((), 16), ((1, 0), 16), ((1,), 4)], ids=str)
def test_later_sizes_that_cannot_be_built(sizes: tuple[tuple[int, ...], int]) -> None:
    depths, width = sizes
    with pytest.raises(ValueError, match="depths"):
        later(embed_dim=width, depths=depths).build()
    with pytest.raises(ValueError, match="scale is 5"):
        later(scale=5).build()


@pytest.mark.parametrize("value", [torch.tensor(0), torch.tensor(-1), torch.tensor(2.0), torch.tensor([2]), 10**6])
def test_damaged_borders(value: Any) -> None:
    for config in (net(border=1), tiny(border=1)):
        with pytest.raises(arch.CheckpointError, match="border is"):
            arch.inspect({**config.build().state_dict(), "border": torch.as_tensor(value)})
        with pytest.raises(ValueError, match="border is -1"):
            dataclasses.replace(config, border=-1).build()


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
def test_the_algebra_is_exact_and_the_dtype_is_kept(name: str) -> None:
    model = built(FORMS[name]).double()
    image = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    with torch.inference_mode():
        expected = model(image)
        assert (arch.fuse(model)(image) - expected).abs().max() <= 1e-12
        assert (model.fuse(fold_norms=False)(image) - expected).abs().max() <= 1e-12
    assert {p.dtype for p in arch.fuse(model.to(torch.bfloat16)).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", FORMS)
def test_every_tensor_counts_in_the_fused_net(name: str) -> None:
    """None is lost in the folding: each changes the deployed form as it changes the network."""
    model, image = built(FORMS[name]), torch.rand(1, 3, 9, 9)
    state = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        before = arch.fuse(model)(image)
        for key, value in state.items():
            if not value.is_floating_point() or not value.numel() or key == "mean":
                continue
            model.load_state_dict(state | {key: value * 1.5 + 0.01})
            after = arch.fuse(model)(image)
            assert not torch.equal(after, before), key
            assert (after - model(image)).abs().max() <= 2e-5, key


def test_what_cannot_be_fused() -> None:
    model = randomise(net(deployed_kernel=5).build())
    for outer in (1.0, 0.5, 1e-3):
        model.anneal(outer)
        with pytest.raises(ValueError, match="Anneal it to 0 first"):
            arch.fuse(model)
    with pytest.raises(TypeError, match="Conv2d was given"):
        arch.fuse(nn.Conv2d(3, 3, 3))


# ---- the public layouts

PUBLIC = {
    "aether_small": (96, (4,) * 4, 192, 11, 3),
    "aether_medium": (128, (6,) * 6, 256, 11, 3),
    "aether_large": (180, (8,) * 8, 450, 13, 3),
}
LATER = {  # sizes, channel attention, spatial attention, residual scale
    "mobile": ((64, (2,) * 4, 96, 7, 3), False, False, 0.2),
    "tiny": ((64, (3,) * 3, 96, 13, 5), True, False, 0.2),
    "small": ((96, (4,) * 4, 144, 13, 5), True, False, 0.1),
    "medium": ((128, (6,) * 4, 192, 13, 5), True, False, 0.1),
    "large": ((180, (8,) * 5, 270, 13, 5), True, True, 0.1),
}


def meta(shapes: dict[str, tuple[int, ...]], scale: int) -> dict[str, Tensor]:
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    return state | ({"scale_tensor": torch.tensor(scale)} if "scale_tensor" in shapes else {})


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("variant", PUBLIC)
def test_keys_of_the_public_checkpoints(variant: str, fused: bool, scale: int) -> None:
    shapes = public_shapes(PUBLIC[variant], scale, 3, fused=fused)
    form = "kernel" if fused else "none"
    config: Any = arch.inspect(meta(shapes, scale))
    assert config == arch.AetherNetConfig(*PUBLIC[variant], scale=scale, fused=form)
    assert (config.variant, config.out_chans) == (variant, 3)
    with torch.device("meta"):
        model = getattr(arch, variant)(scale, fused_init=fused)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes
    assert model.config == config
    assert model.receptive_radius == sum(config.depths) * (config.lk_kernel // 2) + 3 + (1 if scale == 1 else 2)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("name", LATER)
def test_keys_of_the_later_checkpoints(name: str, fused: bool, scale: int) -> None:
    sizes, channel, spatial, res_scale = LATER[name]
    shapes = later_shapes(sizes, scale, 3, channel, spatial, fused=fused)
    config = arch.inspect(meta(shapes, scale))
    options = {"channel_attention": channel, "spatial_attention": spatial, "fused": "kernel" if fused else "none"}
    sizes = (*sizes[:4], 3) if fused else sizes
    assert config == arch.AetherNetLaterConfig(*sizes, scale=scale, **options)  # pyright: ignore[reportArgumentType]
    assert isinstance(config, arch.AetherNetLaterConfig)
    assert (config.variant, config.res_scale) == (f"aether_later_{name}", res_scale)


@pytest.mark.parametrize("config", [net(embed_dim=96, hidden=192), later(embed_dim=96)], ids=str)
@pytest.mark.parametrize("scale", [1, 4])
def test_public_widths(config: Any, scale: int) -> None:
    compare(built(dataclasses.replace(config, scale=scale)), photo(8, 10))


def test_counts_of_the_public_checkpoints() -> None:
    counts = {"aether_small": (1388.963, 1373.603), "aether_medium": (4554, 4508), "aether_large": (18270, 18150)}
    for variant, expected in counts.items():
        for fused, thousands in zip((False, True), expected, strict=True):
            shapes = public_shapes(PUBLIC[variant], 2, 3, fused=fused)
            exact = 1e-9 if variant == "aether_small" else 1e-3
            assert sum(map(math.prod, shapes.values())) == pytest.approx(thousands * 1000, rel=exact)
            assert variant != "aether_small" or len(shapes) == (172 if fused else 204)


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


@pytest.mark.parametrize(
    "config", [net(in_chans=1), net(in_chans=4), net(), later(), later(norm="layer", fused="kernel")], ids=str
)
def test_img_range_is_the_callers_to_say(config: Any, tmp_path: Path) -> None:
    arch.write_checkpoint(built(config).state_dict(), tmp_path / "net.safetensors")
    model = arch.load(tmp_path / "net.safetensors", img_range=2.0)
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


# ---- this project's own forms


def test_a_released_network_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    presets = pytest.importorskip("presets")
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
            assert (config.build().eval()(image) - nearest(image, scale)).abs().max() <= 1e-6


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
