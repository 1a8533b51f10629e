"""The networks as trainers treat them: options, copies for a moving average, switches between train and eval."""

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ema_pytorch
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import arch
from export import pictures, pipeline
from export.errors import ExportError
from export.ranges import load_quantized
from export.source import read
from training import launch, prepare_qat
from training.networks import NAMES, factories

from ..nets import randomise
from .conftest import outer

FACTORIES = {f.__name__: f for f in factories()}
SMALL = FACTORIES["aether_small"]
RECIPE: dict[str, Any] = {"norm": "batch", "gate": "relu", "image_residual": True, "tail": "direct"}
WINDOW = RECIPE | {"deployed_kernel": 5}
X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def train_step(model: nn.Module) -> None:
    """One step of a trainer, large enough to be seen."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    (model(X) - 0.3).abs().mean().backward()
    optimizer.step()


def validate(model: nn.Module) -> Tensor:
    """As both trainers do it: eval mode, inference_mode, and back to training."""
    model.eval()
    with torch.inference_mode():
        y = model(X)
    model.train()
    return y.clone()


def loaded(model: Any, state: dict[str, Any]) -> Any:
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A float checkpoint of aether_small with the recipe's options, window cropped, prepared for training in int8."""
    folder = tmp_path_factory.mktemp("qat")
    arch.write_checkpoint(randomise(SMALL(2, **WINDOW, anneal=0)).state_dict(), folder / "float.safetensors")
    prepare_qat.prepare(folder / "float.safetensors", folder / "start.pth", data / "val" / "hr")
    return folder / "start.pth"


@pytest.mark.parametrize("name", NAMES)
def test_signature_has_every_option_and_no_catch_all(name: str) -> None:
    assert set(FACTORIES) == set(NAMES) == {"aether_tiny", "aether_small", "aether_medium", "aether_large"}
    parameters = inspect.signature(FACTORIES[name]).parameters
    variant = inspect.signature(getattr(arch, name)).parameters
    assert list(parameters) == [*variant, "anneal", "deploy", "qat"]
    assert all(p.kind != inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for wrong in ("upscale", "num_feat"):
        with pytest.raises(TypeError, match=wrong):
            FACTORIES[name](2, **{wrong: 4})


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_the_scale_is_given_or_the_hosts(scale: int) -> None:
    hosted: dict[str, Callable[..., Any]] = {f.__name__: f for f in factories(lambda: 3)}
    for name in ("aether_tiny", "aether_small"):
        assert FACTORIES[name](scale=scale)(X).shape == (2, 3, 8 * scale, 8 * scale)
        assert (hosted[name]().config.scale, hosted[name](scale=scale).config.scale) == (3, scale)


@pytest.mark.parametrize("averaged", ["torch", "ema_pytorch"])
@pytest.mark.parametrize("form", ["anneal", "qat"])  # what is no network of arch's
def test_moving_averages_copy_the_network(start: Path, form: str, averaged: str) -> None:
    """A merged kernel, left over from a forward pass with its gradient, would make deepcopy raise, or be used again."""

    def network() -> nn.Module:
        if form == "anneal":
            return randomise(SMALL(2, drop_path_rate=0.0, **WINDOW, anneal=10))
        return loaded(SMALL(2, **WINDOW, qat=True), arch.read_checkpoint(start))

    model = network()
    validate(model)
    train_step(model)
    with torch.enable_grad():
        model.eval()(X)
    assert torch.equal(validate(model), validate(loaded(network(), model.state_dict())))
    if averaged == "torch":
        ema: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        update, inner = (lambda: ema.update_parameters(model)), ema.module
    else:
        ema = ema_pytorch.EMA(model, beta=0.5, update_after_step=0, update_every=1, power=10)
        update, inner = ema.update, ema.ema_model
    for _ in range(3):
        update()
        train_step(model)
    before = validate(ema)
    assert not torch.equal(before, validate(model))
    update()
    assert not torch.equal(before, validate(ema)), "the average must follow"
    assert torch.equal(validate(ema), validate(loaded(network(), inner.state_dict())))
    assert inner.state_dict().keys() == network().state_dict().keys()
    copy.deepcopy(inner)


def test_annealing_counts_training_batches_and_resumes() -> None:
    model = SMALL(2, **WINDOW, anneal=4)
    seen = [outer(model)]
    for _ in range(2):
        train_step(model)
        validate(model)
        with torch.no_grad():
            model(X)  # in training mode, but no step
        seen.append(outer(model))
    resumed = loaded(SMALL(2, **WINDOW, anneal=4), model.state_dict())
    validate(resumed)
    for _ in range(3):
        train_step(resumed)
        seen.append(outer(resumed))
    assert seen == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    assert seen[-2:] == [0.0, 0.0]
    fused = arch.fuse(resumed.eval())
    assert torch.allclose(fused(X), resumed(X), atol=1e-5)


def test_many_batches_are_counted_exactly() -> None:
    """The count is read from a float32 in the window: it must not stand still or run off."""
    model = SMALL(2, **WINDOW, anneal=200_000)
    hook = next(iter(model._forward_pre_hooks.values()))
    model.train()
    for _ in range(1000):
        hook(model, ())
    assert outer(model) == pytest.approx(1 - 1000 / 200_000, abs=1e-7)


def test_the_average_of_an_annealed_window_becomes_zero() -> None:
    """Averaged alone it would shrink for ever, and the average could never be fused."""
    model = SMALL(2, **WINDOW, anneal=1)
    ema = ema_pytorch.EMA(model, beta=0.5, update_after_step=0, update_every=1, power=10)
    ema.update()
    train_step(model)
    average: Any = ema.ema_model
    for _ in range(10):
        ema.update()
    assert 0 < outer(average) < 0.01
    with pytest.raises(ValueError, match="Anneal it to 0"):
        arch.fuse(average)
    for _ in range(20):
        ema.update()
    assert outer(average) == 0.0
    arch.fuse(average)


def test_anneal_0_crops_whatever_was_loaded() -> None:
    model: Any = SMALL(2, **WINDOW)
    cropped = loaded(SMALL(2, **WINDOW, anneal=0), model.state_dict())
    model.anneal(0.0)
    assert torch.equal(validate(cropped), validate(model))
    assert outer(cropped) == 0.0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("aether_small", RECIPE | {"anneal": 5}, "give deployed_kernel too"),
        ("aether_tiny", {"anneal": 5}, "give deployed_kernel too"),
        ("aether_small", WINDOW | {"anneal": -1}, "it must be a number"),
        ("aether_small", WINDOW | {"anneal": 0, "qat": True}, "only one of them"),
        ("aether_small", {"deploy": True, "qat": True}, "only one of them"),
        ("aether_small", {"gate": "tanh"}, "allowed are"),
        ("aether_small", {"scale": 5}, "scale is 5; allowed are"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FACTORIES[name](**options)


@pytest.mark.parametrize(("name", "options"), [("aether_tiny", {}), ("aether_small", {}), ("aether_small", WINDOW)])
def test_deploy_loads_fused_checkpoints(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model: Any = randomise(FACTORIES[name](2, **options))
    if "deployed_kernel" in options:
        model.anneal(0.0)
    deployed = loaded(FACTORIES[name](2, **options, deploy=True), arch.fuse(model).state_dict())
    expected = model.eval()(X)
    assert torch.allclose(validate(deployed), expected, atol=1e-4 * float(expected.abs().max()))
    validate(deployed)
    AveragedModel(deployed)


def test_qat_needs_a_start_checkpoint_and_float32(start: Path) -> None:
    model = SMALL(2, **WINDOW, qat=True)
    with pytest.raises(RuntimeError, match="prepare_qat"):
        model(X)
    model.load_state_dict(arch.read_checkpoint(start))
    model.train()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="set use_amp to false"):
        model(X)
    model(X).mean().backward()
    grads = [p.grad for n, p in model.named_parameters() if n.endswith("input_quantizer._amax")]
    assert len(grads) > 40 and all(g is not None for g in grads)


def test_prepared_checkpoint_is_the_calibrated_network(start: Path, data: Path) -> None:
    source = read(start.parent / "float.safetensors")
    expected = pipeline.quantise(source, pictures.calibration(data / "val" / "hr", 2, 3))(X)
    model = loaded(SMALL(2, **WINDOW, qat=True), arch.read_checkpoint(start))
    assert torch.equal(validate(model), expected)
    assert torch.equal(load_quantized(model.state_dict())(X), expected)
    assert (expected - source.fused(X)).abs().max() > 0, "the network must be quantised"


def test_prepare_refuses(start: Path, tmp_path: Path) -> None:
    opened, target = tmp_path / "open.pth", tmp_path / "start.pth"
    arch.write_checkpoint(SMALL(2, **WINDOW).state_dict(), opened)
    for source, out, said in (
        (start.parent / "float.safetensors", start, "exists; give another name"),
        (start, target, "holds ranges already"),
        (opened, target, "Anneal it to 0"),
    ):
        with pytest.raises(ExportError, match=said):
            prepare_qat.prepare(source, out)
    assert prepare_qat.main([str(tmp_path / "missing.pth"), str(target)]) == 1
    assert not target.exists()


class Registry(dict[str, Any]):
    """What launch.register needs of BasicSR's Registry."""

    def register(self, factory: Any) -> None:
        assert factory.__name__ not in self
        self[factory.__name__] = factory


def test_registering_twice_does_no_harm_and_a_stranger_is_reported() -> None:
    def aether_small() -> None: ...

    registry = Registry()
    launch.register(registry, factories())
    first = dict(registry)
    launch.register(registry, factories())
    assert dict(registry) == first and set(first) == set(NAMES)
    with pytest.raises(launch.RegistrationError, match="already has another network called aether_small"):
        launch.register(Registry(aether_small=aether_small), factories())
