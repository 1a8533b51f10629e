"""What the formulas of whole networks do not show: randomness in training, and what cannot be built."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from arch.layers import DropPath, GatedFFN, ReparamLargeKernelConv

from ..nets import later, net, tiny


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drop_path_drops_whole_samples_at_its_rate(rate: float) -> None:
    samples = 20_000
    x = torch.ones(samples, 2, 3, requires_grad=True)
    kept = DropPath(rate).train()(x)
    kept.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, kept.detach())
    flat = kept.detach().reshape(samples, -1)
    assert torch.equal(flat.amin(1), flat.amax(1)), "a sample was dropped in part"
    assert flat.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    spread = math.sqrt(rate * (1 - rate) / samples)
    assert float((flat[:, 0] == 0).float().mean()) == pytest.approx(rate, abs=5 * spread)
    assert float(flat.mean()) == pytest.approx(1.0, abs=5 * spread / (1 - rate))
    assert DropPath(rate).eval()(x) is x and DropPath(0.0).train()(x) is x


@torch.no_grad()
def test_gated_ffn_drops_after_the_product_and_after_fc2() -> None:
    ffn = GatedFFN(4, 2000, drop_rate=0.25).train()
    for layer in (ffn.fc1_gate, ffn.fc1_main, ffn.fc2):
        layer.weight.zero_()
    ffn.fc1_gate.bias.fill_(10.0)
    ffn.fc1_main.bias.fill_(0.1)
    ffn.fc2.weight.fill_(1 / 2000)
    ffn.fc2.bias.zero_()
    y = ffn(torch.zeros(2000, 4))
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.03)  # dropout after fc2
    kept = y[y != 0] * 0.75  # the mean of 2000 gates, each dropped or scaled by 4/3
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(kept.std()) == pytest.approx(math.sqrt(1 / 3 / 2000), rel=0.1)
    assert ffn.eval()(torch.zeros(1, 4)).mean().item() == pytest.approx(1.0, abs=1e-4)


def conv(**options: Any) -> Callable[[], ReparamLargeKernelConv]:
    return lambda: ReparamLargeKernelConv(4, **options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (conv(lk_kernel=8), "lk_kernel is 8"),
        (conv(sk_kernel=0), "sk_kernel is 0"),
        (conv(lk_kernel=3, sk_kernel=5), "larger than lk_kernel"),
        (conv(deployed_kernel=4), "deployed_kernel is 4"),
        (conv(deployed_kernel=13), "between sk_kernel 3"),
        (conv(sk_kernel=5, deployed_kernel=3), "between sk_kernel 5"),
        (net(scale=5).build, "scale is 5"),
        (net(scale=5, tail="direct").build, "scale is 5"),
        (net(depths=()).build, "depths is"),
        (net(depths=(2, 0)).build, "depths is"),
        (net(norm="group").build, "norm is 'group'"),
        (net(tail="nearest").build, "tail is 'nearest'"),
        (net(gate="silu").build, "gate is 'silu'.*'gelu' and 'relu'"),
        (net(border=-1).build, "border is -1"),
        (later(depths=()).build, "depths"),
        (later(depths=(1, 0)).build, "depths"),
        (later(embed_dim=4, depths=(1,)).build, "depths"),
        (later(scale=5).build, "scale is 5"),
        (tiny(depth=2).build, "cannot be built"),
        (tiny(embed_dim=0).build, "cannot be built"),
        (tiny(scale=0).build, "cannot be built"),
        (tiny(border=-1).build, "border is -1"),
        (lambda: DropPath(-0.1), r"must be in \[0, 1\)"),
        (lambda: DropPath(1.0), r"must be in \[0, 1\)"),
        (lambda: conv()().anneal(0.5), "no window"),
        (lambda: conv(deployed_kernel=5)().anneal(-0.1), r"must be in \[0, 1\]"),
        (lambda: conv(deployed_kernel=5)().anneal(1.1), r"must be in \[0, 1\]"),
        (lambda: conv(deployed_kernel=5)().anneal(math.nan), r"must be in \[0, 1\]"),
    ],
)
def test_what_cannot_be_built_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
