"""What trainers do to a network: eval and train in turn, deep copies, moving averages, inference mode."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arch

MODELS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: arch.AetherNet(3, 8, (1, 1), lk_kernel=5, drop_path_rate=0.0),
    "batch": lambda: arch.AetherNet(
        3, 8, (1,), lk_kernel=7, norm="batch", gate="relu", deployed_kernel=3, tail="direct"
    ),
    "residual": lambda: arch.AetherNet(3, 8, (1,), lk_kernel=5, image_residual=True, upscale=3),
    "border": lambda: arch.AetherNet(3, 8, (1,), lk_kernel=5, border=3),
    "tiny": lambda: arch.aether_tiny(embed_dim=8, depth=3),
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
    """Nothing is cached on eval(): the output after a step is that of the new weights."""
    model = MODELS[name]()
    image = torch.rand(1, 3, 8, 8)
    outputs = []
    for _ in range(3):
        step(model)
        with torch.inference_mode():
            outputs.append(model.eval()(image))
        rebuilt = arch.inspect(model.state_dict()).build()
        rebuilt.load_state_dict(model.state_dict())
        with torch.inference_mode():
            assert torch.equal(rebuilt.eval()(image), outputs[-1])
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[2])


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str) -> None:
    """After the first step (a last convolution may start at zero), the loss reaches every parameter."""
    model = MODELS[name]()
    for _ in range(4):
        step(model)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", MODELS)
def test_copies_and_moving_averages(name: str) -> None:
    model = MODELS[name]()
    with torch.inference_mode():
        model.eval()(torch.rand(1, 3, 8, 8))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=False)
    image = torch.rand(1, 3, 8, 8)
    for first in (True, False):
        step(model)
        average.update_parameters(model)
        copied = copy.deepcopy(model).eval()
        with torch.inference_mode():
            assert torch.equal(copied(image), model.eval()(image))
            # The first update takes the weights over; buffers (batch norm's statistics) are not averaged.
            assert name == "batch" or torch.equal(average.eval()(image), model(image)) is first
    state = {key.removeprefix("module."): value for key, value in average.state_dict().items() if key != "n_averaged"}
    assert arch.inspect(state) == model.config  # pyright: ignore[reportAttributeAccessIssue]


def test_window_and_mode_survive_a_copy() -> None:
    model = arch.AetherNet(3, 8, (1,), lk_kernel=7, deployed_kernel=3)
    model.anneal(0.25)
    copied = copy.deepcopy(model)
    copied.anneal(0.0)
    image = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert not torch.equal(model.eval()(image), copied.eval()(image))
    assert float(model.state_dict()["layers.0.0.conv.window"][1]) == 0.25


@pytest.mark.parametrize("assign", [False, True])
def test_a_loaded_window_is_the_one_that_is_used(assign: bool) -> None:
    whole, cropped = (arch.AetherNet(3, 8, (1,), lk_kernel=7, deployed_kernel=3) for _ in range(2))
    cropped.load_state_dict(whole.state_dict())
    cropped.anneal(0.0)
    states = {0.0: copy.deepcopy(cropped.state_dict()), 1.0: copy.deepcopy(whole.state_dict())}
    image = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        answers = {0.0: cropped.eval()(image), 1.0: whole.eval()(image)}
    assert not torch.equal(answers[0.0], answers[1.0])
    for model in (whole, cropped):
        for outer in (1.0, 0.0, 1.0):
            model.load_state_dict(states[outer], assign=assign)
            with torch.inference_mode():
                assert torch.equal(model(image), answers[outer])


WRITES: dict[str, Callable[[Tensor, float], object]] = {
    "item": lambda window, outer: window.__setitem__(1, outer),
    "data": lambda window, outer: window.data.__setitem__(1, outer),
    "copy": lambda window, outer: window.copy_(torch.tensor([3.0, outer])),
    "inference": torch.inference_mode()(lambda window, outer: window.__setitem__(1, outer)),
}


@pytest.mark.parametrize("write", WRITES)
def test_the_window_is_what_its_buffer_says_whoever_wrote_it(write: str) -> None:
    model = arch.AetherNet(3, 8, (1,), lk_kernel=7, deployed_kernel=3).eval()
    conv = model.layers[0][0].conv  # pyright: ignore[reportIndexIssue]
    image = torch.rand(1, 3, 8, 8)
    for outer in (0.0, 1.0, 0.5, 0.0):
        expected = copy.deepcopy(model)
        expected.anneal(outer)
        WRITES[write](conv.window, outer)
        with torch.inference_mode():
            assert torch.equal(model(image), expected(image))
        assert conv.kernel_and_bias()[0].shape[-1] == (3 if outer == 0.0 else 7)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_that_outlives_the_window_can_be_fused(use_buffers: bool) -> None:
    """The averaging copies the window's buffer, without a word to the module."""
    model = arch.AetherNet(3, 8, (1, 1), lk_kernel=7, deployed_kernel=3)
    average = AveragedModel(model, use_buffers=use_buffers)
    model.anneal(0.0)
    average.update_parameters(model)
    if use_buffers:
        average.update_parameters(model)
    image = torch.rand(1, 3, 9, 9)
    fused = arch.fuse(average.module)
    assert fused.config.lk_kernel == 3  # pyright: ignore[reportAttributeAccessIssue]
    with torch.inference_mode():
        assert torch.allclose(fused(image), average.eval()(image), atol=1e-5)


def test_a_pass_through_compiled_blocks_follows_the_window() -> None:
    """Compiled code cannot ask the buffer: the network does, before it."""
    model = arch.AetherNet(3, 8, (1,), lk_kernel=7, deployed_kernel=3).eval()
    plain = copy.deepcopy(model)
    block = model.layers[0][0]  # pyright: ignore[reportIndexIssue]
    block.compile(backend="eager")
    image = torch.rand(1, 3, 8, 8)
    for outer in (0.0, 1.0, 0.5, 0.0):
        block.conv.window[1] = outer
        plain.anneal(outer)
        with torch.inference_mode():
            assert torch.allclose(model(image), plain(image), atol=1e-6)


def test_a_network_compiled_as_a_whole_takes_the_window_that_was_loaded() -> None:
    model = arch.AetherNet(3, 8, (1,), lk_kernel=7, deployed_kernel=3).eval()
    states = {outer: copy.deepcopy(model.state_dict()) for outer in (1.0, 0.0) if model.anneal(outer) is None}
    compiled, plain = torch.compile(model, backend="eager"), copy.deepcopy(model)
    image = torch.rand(1, 3, 8, 8)
    for outer in (0.0, 1.0, 0.0):
        model.load_state_dict(states[outer])
        plain.load_state_dict(states[outer])
        with torch.inference_mode():
            assert torch.allclose(compiled(image), plain(image), atol=1e-6)


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


@pytest.mark.parametrize("name", MODELS)
def test_learns_a_negative(name: str) -> None:
    """A few dozen steps bring the error down on flat images, whose negative no residual gives: gradients are right."""
    model = MODELS[name]()
    losses = []
    for _ in range(60):
        low = torch.rand(8, 3, 1, 1).expand(8, 3, 6, 6).contiguous()
        target = 1 - torch.nn.functional.interpolate(low, scale_factor=model.scale)  # pyright: ignore
        loss = (model.train()(low) - target).square().mean()
        descend(model, loss, 1e-3)
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.6 * sum(losses[:5]) / 5
