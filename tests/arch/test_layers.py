"""The public building blocks: DropPath, GatedFFN, ReparamLargeKernelConv, and the norm without transposes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import arch
from arch.layers import ChannelNorm


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drop_path_drops_whole_samples_at_its_rate(rate: float) -> None:
    samples = 20_000
    drop = arch.DropPath(rate).train()
    kept = drop(torch.ones(samples, 2, 3))
    flat = kept.reshape(samples, -1)
    assert torch.equal(flat.amin(1), flat.amax(1)), "a sample was dropped in part"
    assert flat.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    spread = math.sqrt(rate * (1 - rate) / samples)
    assert float((flat[:, 0] == 0).float().mean()) == pytest.approx(rate, abs=5 * spread)
    assert float(flat.mean()) == pytest.approx(1.0, abs=5 * spread / (1 - rate))


def test_drop_path_is_identity_without_rate_and_at_inference() -> None:
    x = torch.rand(4, 3)
    assert arch.DropPath(0.9).eval()(x) is x
    assert arch.DropPath(0.0).train()(x) is x
    for rate in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
            arch.DropPath(rate)


def test_drop_path_lets_gradients_through_kept_samples_only() -> None:
    x = torch.ones(64, 5, requires_grad=True)
    y = arch.DropPath(0.5).train()(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_gated_ffn_is_its_formula() -> None:
    ffn = arch.GatedFFN(6, 10).eval()
    x = torch.randn(2, 4, 5, 6)
    gate = x @ ffn.fc1_gate.weight.T + ffn.fc1_gate.bias
    main = x @ ffn.fc1_main.weight.T + ffn.fc1_main.bias
    gelu = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
    expected = (gelu * main) @ ffn.fc2.weight.T + ffn.fc2.bias
    assert (ffn(x) - expected).abs().max() <= 1e-6
    relu = arch.GatedFFN(6, 10, "relu").eval()
    relu.load_state_dict(ffn.state_dict(), strict=False)
    expected = (gate.clamp(min=0) * main) @ ffn.fc2.weight.T + ffn.fc2.bias
    assert (relu(x) - expected).abs().max() <= 1e-6
    assert set(relu.state_dict()) - set(ffn.state_dict()) == {"relu_gate"}
    with pytest.raises(ValueError, match="'gelu' and 'relu'"):
        arch.GatedFFN(6, 10, "silu")  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def test_gated_ffn_drops_after_the_product_and_after_fc2() -> None:
    ffn = arch.GatedFFN(4, 2000, drop_rate=0.25).train()
    for layer in (ffn.fc1_gate, ffn.fc1_main, ffn.fc2):
        layer.weight.zero_()
    ffn.fc1_gate.bias.fill_(10.0)
    ffn.fc1_main.bias.fill_(0.1)
    ffn.fc2.weight.fill_(1 / 2000)
    ffn.fc2.bias.zero_()
    y = ffn(torch.zeros(5000, 4))
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.02)  # dropout after fc2
    kept = y[y != 0] * 0.75  # the mean of 2000 gates, each dropped or scaled by 4/3
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(kept.std()) == pytest.approx(math.sqrt(1 / 3 / 2000), rel=0.1)
    assert ffn.eval()(torch.zeros(1, 4)).mean().item() == pytest.approx(1.0, abs=1e-4)


def random_conv(**options: Any) -> arch.ReparamLargeKernelConv:
    conv = arch.ReparamLargeKernelConv(5, 9, 3, **options)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(0, 0.2)
    return conv


def test_large_kernel_conv_is_the_sum_of_its_branches() -> None:
    conv = random_conv()
    x = torch.randn(2, 5, 11, 7)
    large = F.conv2d(x, conv.lk_conv.weight, conv.lk_bias, padding=4, groups=5)
    small = F.conv2d(x, conv.sk_conv.weight, conv.sk_bias, padding=1, groups=5)
    assert (conv(x) - large - small).abs().max() <= 1e-5
    fused = arch.ReparamLargeKernelConv(5, 9, 3, fused=True)
    kernel, bias = conv.kernel_and_bias()
    fused.load_state_dict({"fused_conv.weight": kernel, "fused_conv.bias": bias})
    assert (conv(x) - fused(x)).abs().max() <= 1e-5


def test_both_branches_learn() -> None:
    conv = random_conv()
    conv(torch.randn(1, 5, 12, 12)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_window_goes_from_the_full_kernel_to_the_crop() -> None:
    plain = random_conv()
    conv = arch.ReparamLargeKernelConv(5, 9, 3, deployed_kernel=5)
    conv.load_state_dict(plain.state_dict() | {"window": torch.tensor([5.0, 1.0])})
    x = torch.randn(1, 5, 12, 12)
    full, bias = plain.kernel_and_bias()
    assert torch.equal(conv(x), plain(x))
    for outer in (0.75, 0.25, 1e-6, 0.0):
        conv.anneal(outer)
        windowed = full * outer
        windowed[:, :, 2:7, 2:7] = full[:, :, 2:7, 2:7]
        assert (conv(x) - F.conv2d(x, windowed, bias, padding=4, groups=5)).abs().max() <= 1e-5
    assert conv.kernel_and_bias()[0].shape == (5, 1, 5, 5), "at 0 the small kernel is what runs"
    conv(x).sum().backward()
    assert conv.lk_conv.weight.grad is not None
    assert not conv.lk_conv.weight.grad[:, :, :2].any()


@pytest.mark.parametrize(
    ("kernels", "message"),
    [
        ({"lk_kernel": 8}, "lk_kernel is 8"),
        ({"sk_kernel": 0}, "sk_kernel is 0"),
        ({"lk_kernel": 3, "sk_kernel": 5}, "larger than lk_kernel"),
        ({"deployed_kernel": 4}, "deployed_kernel is 4"),
        ({"deployed_kernel": 13}, "between sk_kernel 3"),
        ({"sk_kernel": 5, "deployed_kernel": 3}, "between sk_kernel 5"),
    ],
)
def test_kernel_sizes_that_cannot_be(kernels: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arch.ReparamLargeKernelConv(4, **kernels)


def test_anneal_refuses() -> None:
    with pytest.raises(ValueError, match="no window"):
        random_conv().anneal(0.5)
    windowed = arch.ReparamLargeKernelConv(4, 9, 3, deployed_kernel=5)
    for outer in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
            windowed.anneal(outer)


@pytest.mark.parametrize("affine", [False, True])
def test_channel_norm_is_layer_norm(affine: bool) -> None:
    norm = ChannelNorm(7, 1e-6, affine=affine)
    reference = nn.LayerNorm(7, eps=1e-6)
    if affine:
        with torch.no_grad():
            reference.weight.uniform_(0.5, 2)
            reference.bias.normal_()
        norm.load_state_dict(
            {
                "eps": torch.tensor(1e-6),
                "weight": reference.weight.view(7, 1, 1),
                "bias": reference.bias.view(7, 1, 1),
            }
        )
    x = 3 + 5 * torch.randn(2, 7, 4, 6)
    assert (norm(x) - reference(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upscale": 5}, "scale is 5"),
        ({"upscale": 5, "tail": "direct"}, "scale is 5"),
        ({"depths": ()}, "depths is"),
        ({"depths": (2, 0)}, "depths is"),
        ({"norm": "group"}, "norm is 'group'"),
        ({"tail": "nearest"}, "tail is 'nearest'"),
        ({"gate": "silu"}, "gate is 'silu'"),
    ],
)
def test_networks_refuse_what_cannot_be_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arch.AetherNet(**{"embed_dim": 8, "depths": (1,), **options})


def test_tiny_refuses_what_cannot_be_built() -> None:
    for options in ({"depth": 2}, {"embed_dim": 0}, {"scale": 0}):
        with pytest.raises(ValueError, match="cannot be built"):
            arch.aether_tiny(**options)
