"""What trainers do to a network: eval and train in turn, deep copies, moving averages, inference mode."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arch

from ..nets import built, later, net, tiny

MODELS: dict[str, arch.Config] = {
    "layer": net(embed_dim=8, depths=(1, 1)),
    "batch": net(embed_dim=8, norm="batch", gate="relu", deployed_kernel=3, tail="direct"),
    "residual": net(embed_dim=8, depths=(1,), image_residual=True, scale=3),
    "border": net(embed_dim=8, depths=(1,), border=3),
    "later": later(embed_dim=9),
    "tiny": tiny(depth=3, border=2),
}


def descend(model: nn.Module, loss: Tensor, rate: float) -> None:
    """One step of sign descent."""
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad.sign()


def step(model: nn.Module) -> None:
    output = model.train()(torch.rand(2, 3, 8, 8))
    descend(model, (output - torch.rand_like(output)).abs().mean(), 1e-2)


@pytest.mark.parametrize("name", MODELS)
def test_validation_between_steps_sees_fresh_weights(name: str) -> None:
    """Nothing is cached on eval(), and after the first step the loss reaches every parameter."""
    model = MODELS[name].build()
    image = torch.rand(1, 3, 8, 8)
    outputs = []
    for _ in range(4):  # a last convolution may start at zero
        step(model)
        with torch.inference_mode():
            outputs.append(model.eval()(image))
        rebuilt = arch.inspect(model.state_dict()).build()
        rebuilt.load_state_dict(model.state_dict())
        with torch.inference_mode():
            assert torch.equal(rebuilt.eval()(image), outputs[-1])
    assert not any(torch.equal(*pair) for pair in itertools.pairwise(outputs))
    assert not [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", MODELS)
def test_training_computes_the_same_but_for_what_is_random(name: str) -> None:
    model = built(MODELS[name])
    image = torch.rand(2, 3, 12, 12)
    expected = model(image)
    model.train()
    for module in model.modules():
        if isinstance(module, (arch.DropPath, nn.BatchNorm2d)):
            module.eval()
    assert torch.equal(model(image), expected)


@pytest.mark.parametrize("name", MODELS)
def test_copies_and_moving_averages(name: str) -> None:
    model = MODELS[name].build()
    image = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        model.eval()(image)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=False)
    for first in (True, False):
        step(model)
        average.update_parameters(model)
        copied = copy.deepcopy(model).eval()
        with torch.inference_mode():
            assert torch.equal(copied(image), model.eval()(image))
            # The first update takes the weights over; buffers (batch norm's statistics) are not averaged.
            assert name == "batch" or torch.equal(average.eval()(image), model(image)) is first
    state = {key.removeprefix("module."): value for key, value in average.state_dict().items() if key != "n_averaged"}
    assert arch.inspect(state) == model.config


@pytest.mark.parametrize("name", MODELS)
def test_learns_a_negative(name: str) -> None:
    """A few dozen steps bring the error down on flat images, whose negative no residual gives: gradients are right."""
    model = MODELS[name].build()
    losses = []
    for _ in range(60):
        low = torch.rand(8, 3, 1, 1).expand(8, 3, 6, 6).contiguous()
        target = 1 - nn.functional.interpolate(low, scale_factor=model.scale)
        loss = (model.train()(low) - target).square().mean()
        descend(model, loss, 1e-3)
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.6 * sum(losses[:5]) / 5


def test_drop_path_acts_in_training_only() -> None:
    model = arch.AetherNet(3, 8, (4, 4), lk_kernel=3, drop_path_rate=0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    image = torch.rand(1, 3, 8, 8)
    assert not torch.equal(model.train()(image), model(image))
    assert torch.equal(model.eval()(image), model(image))
    rates = [m.rate for m in model.modules() if isinstance(m, arch.DropPath)]
    assert rates == pytest.approx(torch.linspace(0, 0.9, 8).tolist())


# ---- the window


def windowed() -> arch.AetherNet:
    return arch.AetherNet(3, 8, (1,), lk_kernel=7, deployed_kernel=3).eval()


def annealed(model: arch.AetherNet, outer: float) -> arch.AetherNet:
    copied = copy.deepcopy(model)
    copied.anneal(outer)
    return copied


def load(model: arch.AetherNet, outer: float) -> None:
    model.load_state_dict(annealed(model, outer).state_dict())


def assign(model: arch.AetherNet, outer: float) -> None:
    model.load_state_dict(annealed(model, outer).state_dict(), assign=True)


def window(model: arch.AetherNet) -> Tensor:
    return model.get_buffer("layers.0.0.conv.window")


WRITES: dict[str, Callable[[arch.AetherNet, float], object]] = {
    "item": lambda model, outer: window(model).__setitem__(1, outer),
    "data": lambda model, outer: window(model).data.__setitem__(1, outer),
    "copy": lambda model, outer: window(model).copy_(torch.tensor([3.0, outer])),
    "inference": torch.inference_mode()(lambda model, outer: window(model).__setitem__(1, outer)),
    "load": load,
    "assign": assign,
}


@pytest.mark.parametrize(
    ("write", "compiled"), [*itertools.product(WRITES, ("", "block")), ("load", "whole"), ("assign", "whole")]
)
def test_the_window_is_what_its_buffer_says_whoever_wrote_it(write: str, compiled: str) -> None:
    """Compiled code cannot ask the buffer: the network does, or takes what was loaded."""
    model, image = windowed(), torch.rand(1, 3, 8, 8)
    plain = copy.deepcopy(model)
    run = torch.compile(model, backend="eager") if compiled == "whole" else model
    if compiled == "block":
        model.get_submodule("layers.0.0").compile(backend="eager")
    outputs = []
    for outer in (0.0, 1.0, 0.5, 0.0):
        WRITES[write](model, outer)
        with torch.inference_mode():
            outputs.append(run(image))
            assert torch.allclose(outputs[-1], annealed(plain, outer)(image), atol=1e-6 if compiled else 0, rtol=0)
        conv = model.get_submodule("layers.0.0.conv")
        assert isinstance(conv, arch.ReparamLargeKernelConv)
        assert conv.kernel_and_bias()[0].shape[-1] == (3 if outer == 0.0 else 7)
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])


def test_a_copys_window_is_its_own() -> None:
    model = windowed()
    model.anneal(0.25)
    image, copied = torch.rand(1, 3, 8, 8), annealed(model, 0.0)
    with torch.inference_mode():
        assert not torch.equal(model(image), copied(image))
    assert [float(window(m)[1]) for m in (model, copied)] == [0.25, 0.0]


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_that_outlives_the_window_can_be_fused(use_buffers: bool) -> None:
    """The averaging copies the window's buffer, without a word to the module."""
    model = windowed()
    average = AveragedModel(model, use_buffers=use_buffers)
    model.anneal(0.0)
    for _ in range(1 + use_buffers):
        average.update_parameters(model)
    image = torch.rand(1, 3, 9, 9)
    fused = arch.fuse(average.module)
    assert fused.config.lk_kernel == 3  # pyright: ignore[reportAttributeAccessIssue]
    with torch.inference_mode():
        assert torch.allclose(fused(image), average.eval()(image), atol=1e-5)
