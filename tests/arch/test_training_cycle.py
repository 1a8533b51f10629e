"""What trainers do to a network: eval and train in turn, deep copies, moving averages, inference mode."""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arch
from arch.layers import DropPath, ReparamLargeKernelConv
from arch.registry import unwrap

from ..nets import built, later, net, randomise, tiny

MODELS: dict[str, arch.Config] = {
    "layer": net(embed_dim=8, depths=(1, 1)),
    "batch": net(embed_dim=8, norm="batch", gate="relu", deployed_kernel=3, tail="direct"),
    "residual": net(embed_dim=8, depths=(1,), image_residual=True, scale=3),
    "border": net(embed_dim=8, depths=(1,), border=3),
    "later": later(embed_dim=9),
    "tiny": tiny(depth=3, border=2),
}


def step(model: nn.Module) -> None:
    """One of sign descent."""
    model.zero_grad()
    output = model.train()(torch.rand(2, 3, 8, 8))
    (output - torch.rand_like(output)).abs().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-2 * parameter.grad.sign()


@pytest.mark.parametrize("name", MODELS)
def test_validations_copies_and_averages_between_steps_have_their_own_weights(name: str) -> None:
    """Nothing is cached on eval(), and after the first steps the loss reaches every parameter."""
    model = MODELS[name].build()
    image, outputs = torch.rand(1, 3, 8, 8), []
    with torch.inference_mode():
        model.eval()(image)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=False)
    for first in (True, False, False, False):  # a last convolution may start at zero
        step(model)
        average.update_parameters(model)
        copied, rebuilt = copy.deepcopy(model).eval(), arch.inspect(model.state_dict()).build().eval()
        rebuilt.load_state_dict(model.state_dict())
        with torch.inference_mode():
            outputs.append(model.eval()(image))
            assert torch.equal(copied(image), outputs[-1]) and torch.equal(rebuilt(image), outputs[-1])
            # The first update takes the weights over; buffers (batch norm's statistics) are not averaged.
            assert name == "batch" or torch.equal(average.eval()(image), outputs[-1]) is first
    assert not any(torch.equal(*pair) for pair in itertools.pairwise(outputs))
    assert not [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert arch.inspect(unwrap(average.state_dict())) == model.config


@pytest.mark.parametrize("name", MODELS)
def test_training_computes_the_same_but_for_what_is_random(name: str) -> None:
    model = built(MODELS[name])
    image = torch.rand(2, 3, 12, 12)
    expected = model(image)
    model.train()
    for module in model.modules():
        if isinstance(module, (DropPath, nn.BatchNorm2d)):
            module.eval()
    assert torch.equal(model(image), expected)


def test_drop_path_acts_in_training_only() -> None:
    model, image = randomise(arch.AetherNet(3, 8, (4, 4), lk_kernel=3, drop_path_rate=0.9)), torch.rand(1, 3, 8, 8)
    assert not torch.equal(model.train()(image), model(image))
    assert torch.equal(model.eval()(image), model(image))


# ---- the window


def windowed() -> arch.AetherNet:
    return arch.AetherNet(3, 8, (1,), lk_kernel=7, deployed_kernel=3).eval()


def annealed(model: arch.AetherNet, outer: float) -> arch.AetherNet:
    copied = copy.deepcopy(model)
    copied.anneal(outer)
    return copied


def window(model: arch.AetherNet) -> Tensor:
    return model.get_buffer("layers.0.0.conv.window")


WRITES: dict[str, Callable[[arch.AetherNet, float], object]] = {
    "item": lambda model, outer: window(model).__setitem__(1, outer),
    "data": lambda model, outer: window(model).data.__setitem__(1, outer),
    "copy": lambda model, outer: window(model).copy_(torch.tensor([3.0, outer])),
    "inference": torch.inference_mode()(lambda model, outer: window(model).__setitem__(1, outer)),
    "load": lambda model, outer: model.load_state_dict(annealed(model, outer).state_dict()),
    "assign": lambda model, outer: model.load_state_dict(annealed(model, outer).state_dict(), assign=True),
}


@pytest.mark.parametrize(
    ("write", "compiled"),
    [*((write, "") for write in WRITES), *itertools.product(("load", "assign"), ("block", "whole")), ("item", "block")],
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
        assert isinstance(conv, ReparamLargeKernelConv)
        assert conv.kernel_and_bias()[0].shape[-1] == (3 if outer == 0.0 else 7)
    assert not torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[1], outputs[2])
    assert float(window(plain)[1]) == 1.0, "a copy's window is not its own"


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
