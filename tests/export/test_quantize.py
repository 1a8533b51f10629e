"""Fake quantisation: ranges, the shifted activation, and what training does to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arch
from export.quantizer import (
    QuantConv2d,
    Quantizer,
    calibrate,
    cover_weights,
    float_layers,
    freeze_ranges,
    learn_ranges,
    quant_convs,
    quantize,
)

from .conftest import calibrated


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().square().mean().sqrt())


def test_rounding_is_to_127_steps_of_the_range_and_saturates() -> None:
    q = Quantizer(torch.tensor(1.27), -128)
    x = torch.tensor([0.014, -0.016, 1.27, 5.0, -1.28, -5.0])
    assert torch.allclose(q(x), torch.tensor([0.01, -0.02, 1.27, 1.27, -1.28, -1.28]))


def test_every_convolution_is_quantised_and_the_float_model_is_left_alone(small: arch.AetherNet) -> None:
    fused = arch.fuse(small)
    before = {k: v.clone() for k, v in fused.state_dict().items()}
    model = quantize(fused)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 2 * 3 + 3
    names = {n for n, c in model.named_modules() if isinstance(c, nn.Conv2d) and not isinstance(c, QuantConv2d)}
    assert names == set(float_layers(fused)) == {"conv_last"}
    every = quantize(fused, skip=())
    assert all(isinstance(c, QuantConv2d) for c in every.modules() if isinstance(c, nn.Conv2d))
    assert all(torch.equal(v, before[k]) for k, v in fused.state_dict().items())


def test_ranges_have_modelopts_names_and_shapes(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    model = calibrated(tiny, images)
    weights, ranges = arch.split_ranges(model.state_dict())
    assert ranges["conv_first.input_quantizer._amax"].shape == ()
    assert ranges["blocks.0.weight_quantizer._amax"].shape == (16, 1, 1, 1)
    assert len(ranges) == 2 * 4
    largest = dict(quant_convs(model))["blocks.1"].weight.abs().amax((1, 2, 3))
    assert torch.equal(ranges["blocks.1.weight_quantizer._amax"].flatten(), largest)
    assert arch.inspect(weights) == arch.fuse(tiny).config


@pytest.mark.parametrize("method", ["max", "percentile", "mse"])
def test_calibrated_nets_stay_close_to_float(
    small: arch.AetherNet, public: arch.AetherNet, images: list[Tensor], method: str
) -> None:
    for net in (small, public):
        fused = arch.fuse(net)
        model = quantize(fused)
        calibrate(model, images, method)  # pyright: ignore[reportArgumentType]
        out = fused(images[0])
        assert 0 < rms(model(images[0]), out) < 0.08 * float((out - out.mean()).square().mean().sqrt())


def test_max_covers_what_was_seen_and_mse_clips_an_outlier() -> None:
    conv = nn.Conv2d(1, 1, 1)
    x = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, 0] = 20.0
    found = {}
    for method in ("max", "mse"):
        model = quantize(nn.Sequential(conv))
        calibrate(model, [x], method)
        found[method] = float(next(quant_convs(model))[1].input_quantizer._amax)
    assert found["max"] == pytest.approx(20.0)
    assert found["mse"] < 0.9 * found["max"]


def test_gradients_reach_weights_and_ranges_and_frozen_ranges_stay(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    model = calibrated(tiny, images)
    ranges = learn_ranges(model)
    last = dict(quant_convs(model))["conv_last"]
    assert len(ranges) == 4
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    def step() -> None:
        optimizer.zero_grad()
        (model(images[0]) - 0.3).square().mean().backward()
        optimizer.step()

    kernel = last.weight.detach().clone()
    step()
    assert all(r.grad is not None and float(r.grad) != 0 for r in ranges)
    assert not torch.equal(kernel, last.weight)
    freeze_ranges(model)
    state = {k: v.clone() for k, v in model.state_dict().items() if "quantizer" in k}
    kernel = last.weight.detach().clone()
    step()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert not torch.equal(kernel, last.weight)


def test_weight_ranges_follow_the_weights_in_training_only(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    model = quantize(arch.fuse(tiny))
    conv = dict(quant_convs(model))["blocks.0"]
    with torch.no_grad():
        conv.weight.mul_(2)
    old = conv.weight_quantizer._amax.clone()
    model.eval()(images[0])
    assert torch.equal(conv.weight_quantizer._amax, old)
    model.train()(images[0])
    assert torch.allclose(conv.weight_quantizer._amax, 2 * old)


def clipped(state: dict[str, Tensor], slack: float = 0.0) -> int:
    """How many channels hold a weight outside of their range."""
    ranges = {k.removesuffix(".weight_quantizer._amax"): v for k, v in state.items() if ".weight_quantizer._a" in k}
    assert ranges
    largest = {name: state[f"{name}.weight"].abs().flatten(1).amax(1) for name in ranges}
    return sum(int((largest[name] > amax.flatten() * (1 + slack)).sum()) for name, amax in ranges.items())


def test_averaged_weights_are_inside_of_their_ranges(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    """The largest weights of this network shrink while it trains, so that the last step's ranges are too narrow."""
    model = calibrated(tiny, images)
    learn_ranges(model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    frozen = 15
    for step in range(20):
        if step == frozen:
            freeze_ranges(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(".weight"):
                    parameter.mul_(0.93 if step < frozen else 1.02)
        model.train()(images[0])
        average.update_parameters(model)
        if step == frozen - 1:
            assert clipped(dict(average.module.state_dict()), 1e-6) == 0
    state = {k: v.clone() for k, v in average.module.state_dict().items()}
    held = {k: v.clone() for k, v in state.items()}
    cover_weights(state)
    assert clipped(state) == 0
    assert all(bool((state[k] >= v).all()) for k, v in held.items() if k.endswith("weight_quantizer._amax"))
    assert all(torch.equal(state[k], v) for k, v in held.items() if not k.endswith("weight_quantizer._amax"))
    state["conv_last.weight_quantizer._amax"][2] *= 0.5
    assert clipped(state) == 1
    cover_weights(state)
    assert clipped(state) == 0


def test_what_cannot_be_quantised_is_refused(tiny: arch.AetherTiny, images: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="fuse first"):
        quantize(tiny)
    with pytest.raises(ValueError, match="nonsense"):
        quantize(arch.fuse(tiny), skip=["nonsense"])
    with pytest.raises(ValueError, match="at least one image"):
        calibrate(quantize(arch.fuse(tiny)), [])
    with pytest.raises(ValueError, match="quantize first"):
        calibrate(arch.fuse(tiny), images)
