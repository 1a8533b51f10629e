"""The public layout against a plain re-statement of its formulas, written from its description alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import arch

State = dict[str, Tensor]

# embed_dim, depths, hidden, large kernel, small kernel
SIZES = {
    "aether_small": (96, (4,) * 4, 192, 11, 3),
    "aether_medium": (128, (6,) * 6, 256, 11, 3),
    "aether_large": (180, (8,) * 8, 450, 13, 3),
}


def shapes_of(
    dim: int, depths: tuple[int, ...], hidden: int, lk: int, sk: int, scale: int, chans: int, fused: bool
) -> dict[str, tuple[int, ...]]:
    """Every key of a public checkpoint and its shape."""
    shapes: dict[str, tuple[int, ...]] = {"conv_first.weight": (dim, chans, 3, 3), "conv_first.bias": (dim,)}
    for g, depth in enumerate(depths):
        for b in range(depth):
            block = f"layers.{g}.{b}."
            if fused:
                shapes[block + "conv.fused_conv.weight"] = (dim, 1, lk, lk)
                shapes[block + "conv.fused_conv.bias"] = (dim,)
            else:
                shapes[block + "conv.lk_conv.weight"] = (dim, 1, lk, lk)
                shapes[block + "conv.sk_conv.weight"] = (dim, 1, sk, sk)
                shapes[block + "conv.lk_bias"] = (dim,)
                shapes[block + "conv.sk_bias"] = (dim,)
            shapes[block + "norm.weight"] = (dim,)
            shapes[block + "norm.bias"] = (dim,)
            for name in ("fc1_gate", "fc1_main"):
                shapes[f"{block}ffn.{name}.weight"] = (hidden, dim)
                shapes[f"{block}ffn.{name}.bias"] = (hidden,)
            shapes[block + "ffn.fc2.weight"] = (dim, hidden)
            shapes[block + "ffn.fc2.bias"] = (dim,)
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    shapes |= {"conv_after_body.weight": (dim, dim, 3, 3), "conv_after_body.bias": (dim,)}
    shapes |= {"conv_before_upsample.0.weight": (64, dim, 3, 3), "conv_before_upsample.0.bias": (64,)}
    if scale == 3:
        shapes |= {"upsample.0.weight": (576, 64, 3, 3), "upsample.0.bias": (576,)}
    else:
        for step in range(int(math.log2(scale))):
            shapes |= {f"upsample.{2 * step}.weight": (256, 64, 3, 3), f"upsample.{2 * step}.bias": (256,)}
    return shapes | {"conv_last.weight": (chans, 64, 3, 3), "conv_last.bias": (chans,)}


@lru_cache(maxsize=4000)
def random_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor by its key and shape, the same at every scale."""
    generator = torch.Generator().manual_seed(sum(map(ord, key)) + len(shape))
    value = torch.randn(shape, generator=generator)
    if "norm.weight" in key:
        return 1 + 0.2 * value
    if len(shape) == 1:
        return 0.1 * value
    # The last convolution gives an image in [0, 1], the range in which 1e-5 is meant.
    return value * (0.3 if key == "conv_last.weight" else 1.0) / math.sqrt(value[0].numel())


def random_state(variant: str, scale: int, *, chans: int = 3, fused: bool = False) -> State:
    shapes = shapes_of(*SIZES[variant], scale=scale, chans=chans, fused=fused)
    return {key: random_tensor(key, shape) for key, shape in shapes.items()}


def conv(state: State, name: str, x: Tensor, groups: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2, groups=groups)


def layer_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    per_channel = (1, -1, 1, 1)
    normal = (x - mean) / torch.sqrt(variance + eps)
    return normal * state[f"{name}.weight"].view(per_channel) + state[f"{name}.bias"].view(per_channel)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return torch.einsum("oc,nchw->nohw", state[f"{name}.weight"], x) + state[f"{name}.bias"].view(1, -1, 1, 1)


def pixel_shuffle(x: Tensor, s: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c // (s * s), s, s, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // (s * s), h * s, w * s)


def block(state: State, name: str, x: Tensor) -> Tensor:
    dim = x.shape[1]
    if f"{name}.conv.fused_conv.weight" in state:
        y = conv(state, f"{name}.conv.fused_conv", x, groups=dim)
    else:
        y = conv(state, f"{name}.conv.lk_conv", x, groups=dim) + conv(state, f"{name}.conv.sk_conv", x, groups=dim)
        y = y + (state[f"{name}.conv.lk_bias"] + state[f"{name}.conv.sk_bias"]).view(1, -1, 1, 1)
    y = layer_norm(state, f"{name}.norm", y, 1e-6)
    gate = linear(state, f"{name}.ffn.fc1_gate", y)
    gelu = 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
    return x + linear(state, f"{name}.ffn.fc2", gelu * linear(state, f"{name}.ffn.fc1_main", y))


def body(state: State, image: Tensor, img_range: float = 1.0) -> Tensor:
    """Image -> features of conv_before_upsample, in float64."""
    state = {key: value.double() for key, value in state.items()}
    mean = 0.5 if image.shape[1] == 3 else 0.0
    first = conv(state, "conv_first", (image.double() - mean) * img_range)
    y = first
    for name in sorted({".".join(k.split(".")[:3]) for k in state if k.startswith("layers.")}):
        y = block(state, name, y)
    y = conv(state, "conv_after_body", layer_norm(state, "norm", y, 1e-5)) + first
    y = conv(state, "conv_before_upsample.0", y)
    return torch.where(y > 0, y, 0.01 * y)


def tail(state: State, y: Tensor, scale: int, img_range: float = 1.0) -> Tensor:
    """Features of conv_before_upsample -> image, in float64."""
    state = {key: value.double() for key, value in state.items() if key.startswith(("upsample", "conv_last"))}
    mean = 0.5 if state["conv_last.bias"].shape[0] == 3 else 0.0
    for name, factor in {1: (), 2: ((0, 2),), 3: ((0, 3),), 4: ((0, 2), (2, 2)), 8: ((0, 2), (2, 2), (4, 2))}[scale]:
        y = pixel_shuffle(conv(state, f"upsample.{name}", y), factor)
    return conv(state, "conv_last", y) / img_range + mean


@lru_cache(maxsize=1)
def body_features(variant: str, fused: bool, images: bytes) -> Tensor:
    """The re-stated body, which is the same at every scale and the slow part of these tests."""
    image = torch.frombuffer(bytearray(images), dtype=torch.float32).view(2, 3, 8, 10)
    return body(random_state(variant, 2, fused=fused), image)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("variant", SIZES)
def test_loads_runs_and_fuses(variant: str, scale: int, fused: bool, photo: Callable[..., Tensor]) -> None:
    images = torch.cat([photo(8, 10, 3), torch.rand(1, 3, 8, 10)])
    state = random_state(variant, scale, fused=fused)
    config = arch.inspect(state)
    dim, depths, hidden, lk, sk = SIZES[variant]
    assert config == arch.AetherNetConfig(
        dim, depths, hidden, lk, sk, scale=scale, in_chans=3, fused="kernel" if fused else "none"
    )
    assert (config.variant, config.out_chans) == (variant, 3)
    model = config.build()
    model.load_state_dict(state)
    with torch.inference_mode():
        expected = tail(state, body_features(variant, fused, images.numpy().tobytes()), scale)
        assert 0.1 < expected.std() < 0.6, "the weights do not give an image's range"
        output = model.eval()(images)
        deployed = arch.fuse(model)(images)
    assert output.shape == (2, 3, 8 * scale, 10 * scale)
    assert (output - expected).abs().max() <= 1e-5
    assert (deployed - expected).abs().max() <= 1e-5
    assert (deployed - output).abs().max() <= 1e-5


@pytest.mark.parametrize(("chans", "img_range"), [(1, 1.0), (3, 255.0), (4, 2.0)])
def test_channels_and_img_range(chans: int, img_range: float, tmp_path) -> None:  # noqa: ANN001
    """The mean is 0.5 for colour and 0 for anything else; img_range is the caller's to say."""
    state = random_state("aether_small", 2, chans=chans)
    arch.write_checkpoint(state, tmp_path / "net.safetensors")
    model = arch.load(tmp_path / "net.safetensors", img_range=img_range)
    image = torch.rand(1, chans, 7, 9)
    with torch.inference_mode():
        expected = tail(state, body(state, image, img_range), 2, img_range)
        assert (model(image) - expected).abs().max() <= 1e-5
        assert (arch.fuse(model)(image) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
def test_norms_of_small_signals(fused: bool) -> None:
    """With a signal of 1e-3, the norms' eps (1e-6 in blocks, 1e-5 at the end) decide the output."""
    shapes = shapes_of(8, (2, 1), 12, 7, 3, scale=2, chans=3, fused=fused)
    state = {key: random_tensor(key, shape) for key, shape in shapes.items()}
    for key in state:
        if key.startswith("conv_first") or ".fc2." in key:
            state[key] = 1e-3 * state[key]
    model = arch.inspect(state).build()
    model.load_state_dict(state)
    image = torch.rand(1, 3, 9, 9)
    with torch.inference_mode():
        expected = tail(state, body(state, image), 2)
        assert (model.eval()(image) - expected).abs().max() <= 1e-5
        assert (arch.fuse(model)(image) - expected).abs().max() <= 1e-5


def test_counts_of_the_public_checkpoints() -> None:
    def parameters(variant: str, fused: bool) -> int:
        return sum(math.prod(s) for s in shapes_of(*SIZES[variant], scale=2, chans=3, fused=fused).values())

    def built(variant: str, fused: bool) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in getattr(arch, variant)(2, fused_init=fused).parameters())

    small = shapes_of(*SIZES["aether_small"], scale=2, chans=3, fused=False)
    assert (len(small), len(arch.aether_small().state_dict())) == (204, 204)
    assert len(arch.aether_small(fused_init=True).state_dict()) == 172
    assert (parameters("aether_small", False), parameters("aether_small", True)) == (1_388_963, 1_373_603)
    for variant, (unfused, fused) in {"aether_medium": (4554, 4508), "aether_large": (18270, 18150)}.items():
        assert parameters(variant, False) == pytest.approx(unfused * 1000, rel=1e-3)
        assert parameters(variant, True) == pytest.approx(fused * 1000, rel=1e-3)
    for variant in SIZES:
        for fused in (False, True):
            assert built(variant, fused) == parameters(variant, fused)


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
