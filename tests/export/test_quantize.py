"""Fake quantisation: ranges, the shifted activation, and what training does to them."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arch
from export.quantizer import (
    Method,
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

AMAX = ".weight_quantizer._amax"


def test_rounding_is_to_127_steps_of_the_range_and_saturates() -> None:
    q = Quantizer(torch.tensor(1.27), -128)
    x = torch.tensor([0.014, -0.016, 1.27, 5.0, -1.28, -5.0])
    assert torch.allclose(q(x), torch.tensor([0.01, -0.02, 1.27, 1.27, -1.28, -1.28]))


def test_every_convolution_is_quantised_and_the_float_model_is_left_alone(small: arch.Upscaler) -> None:
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


def test_ranges_have_modelopts_names_and_shapes(tiny: arch.Upscaler, images: list[Tensor]) -> None:
    model = calibrated(tiny, images)
    weights, ranges = arch.split_ranges(model.state_dict())
    assert ranges["conv_first.input_quantizer._amax"].shape == ()
    assert ranges["blocks.0.weight_quantizer._amax"].shape == (16, 1, 1, 1)
    assert len(ranges) == 2 * 4
    largest = dict(quant_convs(model))["blocks.1"].weight.abs().amax((1, 2, 3))
    assert torch.equal(ranges["blocks.1.weight_quantizer._amax"].flatten(), largest)
    assert arch.inspect(weights) == arch.fuse(tiny).config


def test_max_covers_what_was_seen_and_the_others_clip_an_outlier() -> None:
    x = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, 0] = 20.0
    found: dict[Method, float] = {}
    for method in get_args(Method):
        model = quantize(nn.Sequential(nn.Conv2d(1, 1, 1)))
        calibrate(model, [x], method)
        found[method] = float(next(quant_convs(model))[1].input_quantizer._amax)
    assert found["max"] == pytest.approx(20.0)
    assert 3 < found["mse"] < 18
    assert found["percentile"] == pytest.approx(3.9, abs=0.3)  # 99.99 % of a normal distribution


def test_gradients_reach_weights_and_ranges_and_frozen_ranges_stay(tiny: arch.Upscaler, images: list[Tensor]) -> None:
    model = calibrated(tiny, images)
    ranges = learn_ranges(model)
    last = dict(quant_convs(model))["conv_last"]
    assert len(ranges) == 4
    old = last.weight_quantizer._amax.clone()
    with torch.no_grad():
        last.weight.mul_(2)
    model.eval()(images[0])
    assert torch.equal(last.weight_quantizer._amax, old)  # weights' ranges follow them in training only
    model.train()(images[0])
    assert torch.allclose(last.weight_quantizer._amax, 2 * old)
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


def clipped(state: dict[str, Tensor], slack: float = 0.0) -> int:
    """How many channels hold a weight outside of their range."""
    ranges = {key: value for key, value in state.items() if key.endswith(AMAX)}
    assert len(ranges) == 4
    largest = {key: state[key.removesuffix(AMAX) + ".weight"].abs().flatten(1).amax(1) for key in ranges}
    return sum(int((largest[key] > amax.flatten() * (1 + slack)).sum()) for key, amax in ranges.items())


def test_averaged_weights_are_inside_of_their_ranges(tiny: arch.Upscaler, images: list[Tensor]) -> None:
    """The largest weights of this network shrink while it trains, so that the last step's ranges are too narrow."""
    model = calibrated(tiny, images)
    learn_ranges(model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for step in range(20):
        if step == 15:
            assert clipped(dict(average.module.state_dict()), 1e-6) == 0
            freeze_ranges(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(".weight"):
                    parameter.mul_(0.93 if step < 15 else 1.02)
        model.train()(images[0])
        average.update_parameters(model)
    state = {k: v.clone() for k, v in average.module.state_dict().items()}
    state["conv_last" + AMAX][2] *= 0.5
    held = {k: v.clone() for k, v in state.items()}
    assert clipped(state) > 0
    cover_weights(state)
    assert clipped(state) == 0
    assert all((state[k] >= v).all() if k.endswith(AMAX) else torch.equal(state[k], v) for k, v in held.items())


def test_what_cannot_be_quantised_is_refused(tiny: arch.Upscaler, images: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="fuse first"):
        quantize(tiny)
    with pytest.raises(ValueError, match="nonsense"):
        quantize(arch.fuse(tiny), skip=["nonsense"])
    with pytest.raises(ValueError, match="at least one image"):
        calibrate(quantize(arch.fuse(tiny)), [])
    with pytest.raises(ValueError, match="quantize first"):
        calibrate(arch.fuse(tiny), images)
