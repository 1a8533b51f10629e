"""The later public layout (`stages.*`, version 3.1.1) against a plain re-statement of its formulas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import arch

State = dict[str, Tensor]

# embed_dim, depths, large kernel, small kernel, mlp ratio, channel attention, spatial attention, residual scale
PRESETS = {
    "mobile": (64, (2, 2, 2, 2), 7, 3, 1.5, False, False, 0.2),
    "tiny": (64, (3, 3, 3), 13, 5, 1.5, True, False, 0.2),
    "small": (96, (4, 4, 4, 4), 13, 5, 1.5, True, False, 0.1),
    "medium": (128, (6, 6, 6, 6), 13, 5, 1.5, True, False, 0.1),
    "large": (180, (8, 8, 8, 8, 8), 13, 5, 1.5, True, True, 0.1),
}
# Not public: everything on, an odd width that three stages do not divide.
TOY = {"toy": (47, (1, 2, 2), 7, 3, 1.75, True, True, 0.2)}


def upsampler(dim: int, scale: int) -> list[tuple[str, int, int, int]]:
    """(key, channels in, channels out behind PixelShuffle, factor) of each convolution."""
    out = max(32, (dim // max(1, scale // 2)) & ~1)
    steps = {
        1: [(dim, out, 1)],
        2: [(dim, out, 2)],
        3: [(dim, out, 3)],
        4: [(dim, dim // 2, 2), (dim // 2, out, 2)],
        8: [(dim, dim // 2, 2), (dim // 2, dim // 4, 2), (dim // 4, out, 2)],
    }[scale]
    return [(f"upsample.blocks.{2 * i}", *step) for i, step in enumerate(steps)]


def random_state(preset: str, scale: int, *, fused: bool = False, norm: str = "batch", chans: int = 3) -> State:
    """Every key of a public checkpoint with random values."""
    dim, depths, lk, sk, ratio, channel, spatial, _ = (PRESETS | TOY)[preset]
    hidden = int(dim * ratio)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    state: State = {"scale_tensor": torch.tensor(scale), "mean": torch.full((1, chans, 1, 1), 0.5)}

    def add_conv(name: str, out: int, inner: int, k: int, bias: bool = True, gain: float = 1.0) -> None:
        state[f"{name}.weight"] = gain * random(out, inner, k, k) / math.sqrt(inner * k * k)
        if bias:
            state[f"{name}.bias"] = 0.1 * random(out)

    def add_norm(name: str) -> None:
        shape = (dim,) if norm == "layer" else (1, dim, 1, 1)
        state[f"{name}.weight"] = 1 + 0.2 * random(*shape)
        state[f"{name}.bias"] = 0.1 * random(*shape)
        if norm == "batch" and not fused:
            state[f"{name}.running_mean"] = 0.2 * random(*shape)
            state[f"{name}.running_var"] = 0.3 + random(*shape) ** 2

    add_conv("conv_first", dim, chans, 3)
    for s, depth in enumerate(depths):
        for b in range(depth):
            name = f"stages.{s}.{b}."
            if fused:
                add_conv(name + "conv.fused_conv", dim, 1, lk)
            else:
                add_conv(name + "conv.lk_conv", dim, 1, lk, bias=False)
                add_conv(name + "conv.sk_conv", dim, 1, sk, bias=False)
                state |= {f"{name}conv.lk_bias": 0.1 * random(dim), f"{name}conv.sk_bias": 0.1 * random(dim)}
            add_norm(name + "norm")
            add_conv(name + "ffn.conv_gate", hidden, dim, 1)
            add_conv(name + "ffn.conv_main", hidden, dim, 1)
            add_conv(name + "ffn.conv_out", dim, hidden, 1)
            state[name + "ffn.temperature"] = 1 + 0.3 * random(1)
            if channel:
                add_conv(name + "channel_attn.fc.0", dim // 8, dim, 1, bias=False, gain=5)
                add_conv(name + "channel_attn.fc.2", dim, dim // 8, 1, bias=False, gain=5)
            if spatial:
                add_conv(name + "spatial_attn.conv", 1, 2, 7, bias=False)
        add_conv(f"fusion_convs.{s}", dim // len(depths) + (s < dim % len(depths)), dim, 1)
    add_conv("quant_fusion_layer.fusion_conv", dim, dim, 1)
    state["quant_fusion_layer.error_comp"] = 0.1 * random(1, dim, 1, 1)
    add_norm("norm")
    add_conv("conv_after_body", dim, dim, 3)
    add_conv("conv_before_upsample.0", dim, dim, 3)
    steps = upsampler(dim, scale)
    for name, inner, out, factor in steps:
        add_conv(name, out * factor**2, inner, 3)
    add_conv("conv_last", chans, steps[-1][2], 3, gain=0.2)
    return state


def conv(state: State, name: str, x: Tensor, groups: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2, groups=groups)


def normalise(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias = (state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
    if state[f"{name}.weight"].ndim == 1:
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(((x - mean) ** 2).mean(1, keepdim=True) + 1e-5)
    elif f"{name}.running_mean" in state:
        x = (x - state[f"{name}.running_mean"]) / torch.sqrt(state[f"{name}.running_var"] + 1e-4)
    return x * weight + bias


def block(state: State, name: str, x: Tensor, res_scale: float) -> Tensor:
    if f"{name}.conv.fused_conv.weight" in state:
        y = conv(state, f"{name}.conv.fused_conv", x, groups=x.shape[1])
    else:
        y = conv(state, f"{name}.conv.lk_conv", x, x.shape[1]) + conv(state, f"{name}.conv.sk_conv", x, x.shape[1])
        y = y + (state[f"{name}.conv.lk_bias"] + state[f"{name}.conv.sk_bias"]).view(1, -1, 1, 1)
    y = normalise(state, f"{name}.norm", y)
    gate = conv(state, f"{name}.ffn.conv_gate", y) * state[f"{name}.ffn.temperature"]
    y = conv(state, f"{name}.ffn.conv_out", gate / (1 + torch.exp(-gate)) * conv(state, f"{name}.ffn.conv_main", y))
    if f"{name}.channel_attn.fc.0.weight" in state:
        squeezed = conv(state, f"{name}.channel_attn.fc.0", y.mean((2, 3), keepdim=True)).clamp(min=0)
        y = y * torch.sigmoid(conv(state, f"{name}.channel_attn.fc.2", squeezed))
    if f"{name}.spatial_attn.conv.weight" in state:
        pooled = torch.cat([y.max(1, keepdim=True).values, y.mean(1, keepdim=True)], 1)
        y = y * torch.sigmoid(conv(state, f"{name}.spatial_attn.conv", pooled))
    return x + res_scale * y


def body(state: State, image: Tensor, res_scale: float, img_range: float = 1.0) -> Tensor:
    """Image -> features of conv_before_upsample, in float64."""
    state = {key: value.double() for key, value in state.items()}
    first = conv(state, "conv_first", image.double() / img_range - 0.5)
    y, features = first, []
    for s in range(len({k.split(".")[1] for k in state if k.startswith("stages.")})):
        for b in range(len({k.split(".")[2] for k in state if k.startswith(f"stages.{s}.")})):
            y = block(state, f"stages.{s}.{b}", y, res_scale)
        features.append(conv(state, f"fusion_convs.{s}", y))
    y = conv(state, "quant_fusion_layer.fusion_conv", torch.cat(features, 1))
    y = normalise(state, "norm", y + state["quant_fusion_layer.error_comp"]) + first
    y = conv(state, "conv_after_body", y) + y
    y = conv(state, "conv_before_upsample.0", y)
    return torch.where(y > 0, y, 0.01 * y)


def tail(state: State, y: Tensor, scale: int, img_range: float = 1.0) -> Tensor:
    """Features of conv_before_upsample -> image, in float64."""
    state = {key: value.double() for key, value in state.items() if key.startswith(("upsample", "conv_last"))}
    for name, _, _, factor in upsampler(y.shape[1], scale):
        y = F.pixel_shuffle(conv(state, name, y), factor)
    return (conv(state, "conv_last", y) + 0.5) * img_range


@lru_cache(maxsize=1)
def body_features(preset: str, fused: bool, images: bytes) -> Tensor:
    """The re-stated body, which is the same at every scale and the slow part of these tests."""
    image = torch.frombuffer(bytearray(images), dtype=torch.float32).view(2, 3, 6, 7)
    return body(random_state(preset, 2, fused=fused), image, PRESETS[preset][-1])


def check(state: State, images: Tensor, scale: int, features: Tensor, img_range: float = 1.0) -> None:
    """Loads strictly, and its output and that of the fused net are the re-stated ones."""
    model = dataclasses.replace(arch.inspect(state), img_range=img_range).build()
    model.load_state_dict(state)
    with torch.inference_mode():
        expected = tail(state, features, scale, img_range)
        output, deployed = model.eval()(images), arch.fuse(model)(images)
    assert expected.std() > 0.05 * img_range, "the weights give a flat image and test nothing"
    assert output.shape[2:] == (images.shape[2] * scale, images.shape[3] * scale)
    assert (output - expected).abs().max() <= 1e-5 * img_range
    assert (deployed - expected).abs().max() <= 1e-5 * img_range


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str, scale: int, fused: bool, photo: Callable[..., Tensor]) -> None:
    state = random_state(preset, scale, fused=fused)
    dim, depths, lk, sk, ratio, channel, spatial, res_scale = PRESETS[preset]
    config = arch.inspect(state)
    assert config == arch.AetherNetLaterConfig(
        embed_dim=dim,
        depths=depths,
        hidden=int(dim * ratio),
        lk_kernel=lk,
        sk_kernel=3 if fused else sk,
        scale=scale,
        channel_attention=channel,
        spatial_attention=spatial,
        fused="kernel" if fused else "none",
    )
    assert config.variant == f"aether_later_{preset}"
    assert isinstance(config, arch.AetherNetLaterConfig)
    assert config.res_scale == res_scale
    images = torch.cat([photo(6, 7, 3), torch.rand(1, 3, 6, 7)])
    check(state, images, scale, body_features(preset, fused, images.numpy().tobytes()))


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize(("preset", "chans", "img_range"), [("mobile", 1, 1.0), ("toy", 3, 255.0)])
def test_norms_channels_and_range(preset: str, chans: int, img_range: float, norm: str, fused: bool) -> None:
    """norm_type "layernorm" of the public code, gray images, another img_range, a width that stages don't divide."""
    state = random_state(preset, 2, fused=fused, norm=norm, chans=chans)
    assert dataclasses.asdict(arch.inspect(state))["norm"] == norm
    images = torch.rand(2, chans, 5, 9) * img_range
    check(state, images, 2, body(state, images, 0.2, img_range), img_range)


def test_every_folded_term_matters() -> None:
    """Each tensor of a block takes part in the fused net: none is lost in the folding."""
    state = random_state("toy", 2)
    model = arch.inspect(state).build()
    image = torch.rand(1, 3, 9, 9)
    model.load_state_dict(state)
    before = arch.fuse(model)(image)
    for key, value in state.items():
        if key.startswith(("stages.1.1.", "norm.", "quant_fusion_layer.", "fusion_convs.2.", "stages.0.0.")):
            model.load_state_dict(state | {key: value * 1.5 + 0.01})
            with torch.inference_mode():
                after, unfused = arch.fuse(model)(image), model(image)
            assert not torch.equal(after, before), key
            assert (after - unfused).abs().max() <= 1e-5, key


def test_fused_state_round_trips_and_holds_plain_convolutions() -> None:
    for norm in ("batch", "layer"):
        model = arch.inspect(state := random_state("toy", 3, norm=norm)).build()
        model.load_state_dict(state)
        fused = arch.fuse(model)
        assert arch.inspect(fused.state_dict()) == fused.config
        again = arch.fuse(fused)
        assert again is not fused
        image = torch.rand(1, 3, 8, 8)
        assert torch.equal(again(image), fused(image))
        owners = {type(m) for m in fused.modules() if list(m.parameters(recurse=False))}
        assert owners == ({nn.Conv2d} if norm == "batch" else {nn.Conv2d, arch.layers.ChannelNorm})


def test_train_mode_computes_the_same() -> None:
    model = arch.inspect(state := random_state("mobile", 2)).build()
    model.load_state_dict(state)
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(model.train()(image), model.eval()(image))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_extra_buffers_and_other_versions() -> None:
    state = random_state("mobile", 4)
    expected = arch.inspect(state)
    versions = {"pt_version": torch.tensor([2, 7, 1]), "model_version": torch.tensor([3, 1, 1])}
    assert arch.inspect(state | versions) == expected
    for version in ([3, 1, 0], [3, 2, 0], [1, 0, 0]):
        with pytest.raises(arch.CheckpointError, match=r"version \[\d, \d, 0\] of the public code"):
            arch.inspect(state | versions | {"model_version": torch.tensor(version)})
    earlier = {("scale" if k == "scale_tensor" else k): v for k, v in state.items()}
    with pytest.raises(arch.CheckpointError, match="scale_tensor is missing"):
        arch.inspect(earlier)
    with pytest.raises(arch.CheckpointError, match=r"scale_tensor is 2.*scale 4"):
        arch.inspect(state | {"scale_tensor": torch.tensor(2)})


def test_loads_the_public_release_form(tmp_path) -> None:  # noqa: ANN001
    """The public release script stores torch.__version__, a class of torch's own, beside the weights, in half."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in random_state("mobile", 2, fused=True).items()}
    metadata = {"pt_version": torch.__version__, "scale": 2, "arch_config": {"depths": [2, 2, 2, 2]}}
    torch.save({"state_dict": state, "metadata": metadata}, tmp_path / "aether_mobile.pth")
    model = arch.load(tmp_path / "aether_mobile.pth")
    image = torch.rand(1, 3, 8, 8)
    assert model(image).dtype == torch.float32
    assert (model(image) - tail(state, body(state, image, 0.2), 2)).abs().max() <= 1e-5


def test_sizes_that_cannot_be_built() -> None:
    for depths, dim in (((), 16), ((1, 0), 16), ((1,), 4)):
        with pytest.raises(ValueError, match="depths"):
            arch.AetherNetLater(arch.AetherNetLaterConfig(dim, depths, hidden=8, lk_kernel=7, sk_kernel=3))
    with pytest.raises(ValueError, match="scale is 5"):
        arch.AetherNetLaterConfig(16, (1,), hidden=8, scale=5).build()
