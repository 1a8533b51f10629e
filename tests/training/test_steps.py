"""What a stage starts from, and what its steps minimise."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import arch
from export import metrics, quantizer
from training import train
from training.config import Stage

from .conftest import Capture, Patch, Runs, State, same, trained


def small() -> arch.AetherNet:
    """An aether_small in its released form whose channels, biases and batch statistics differ as after training."""
    torch.manual_seed(0)
    options = {"norm": "batch", "gate": "relu", "deployed_kernel": 5, "image_residual": True, "tail": "direct"}
    model = arch.aether_small(2, drop_path_rate=0.0, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_var" in name:
                tensor.uniform_(0.2, 5.0, generator=generator)
            elif "running_mean" in name or name.endswith("bias"):
                tensor.normal_(0, 0.1, generator=generator)
        model.conv_last.weight.normal_(0, 0.05, generator=generator)  # zeros in a fresh network
    model.anneal(0.0)
    return model.eval()


def test_equalising_before_quantisation_leaves_the_function() -> None:
    teacher = arch.fuse(small())
    generator = torch.Generator().manual_seed(2)
    batches = [torch.rand(2, 3, 24, 24, generator=generator) for _ in range(2)]
    student = train.fake_quantise(teacher, Stage(steps=1, lr=1e-4), batches)
    theirs, ours = teacher.state_dict(), student.state_dict()
    assert any(not torch.allclose(theirs[k], ours[k], rtol=0.05) for k in theirs if k.endswith("fc2.weight"))
    with torch.no_grad():
        wanted, rounded = teacher(batches[0]), student.eval()(batches[0])
        for _, conv in quantizer.quant_convs(student):
            conv.input_quantizer.mode = conv.weight_quantizer.mode = "off"
        plain = student(batches[0])
    error = float((plain - wanted).abs().max())
    assert error < 1e-4
    assert float((rounded - wanted).abs().max()) > 10 * error
    learnt = [p for n, p in student.named_parameters() if n.endswith("input_quantizer._amax")]
    assert len(learnt) == len(dict(quantizer.quant_convs(student)))


def test_fine_tuning_starts_from_the_checkpoint(run: Runs, finished: Path) -> None:
    """Of either stage; without a [model] the network is the checkpoint's."""
    start = {"init": str(finished / "notfused.pth")}
    still = {"float": start | {"lr": 0.0, "steps": 2, "seed": 9}, "qat": {"init": str(finished / "qat.pth"), "lr": 0.0}}
    run("second", model=None, **still)
    second = run.stages("second", model=None, **still)
    assert same(trained(finished), trained(second))
    assert same(trained(finished, "qat"), trained(second, "qat"))
    third = run("third", float=start | {"steps": 2})
    before, after = (trained(out)["blocks.0.conv.weight"] for out in (finished, third))
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, atol=2e-3)


def test_an_annealed_kernel_opens_again_on_the_same_network(run: Runs, tmp_path: Path) -> None:
    model, source = small(), tmp_path / "small.safetensors"
    arch.write_checkpoint(model.state_dict(), source)
    options = {"init": str(source), "lr": 0.0, "steps": 2, "anneal": (0.4, 0.6), "freeze_norm": 0.0}
    opened = trained(run("net", variant="aether_small", model=None, float=options))
    windows = [v.tolist() for k, v in opened.items() if k.endswith("window")]
    assert windows == [[5.0, pytest.approx(0.5)]] * 16
    after, x = small(), torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(3))
    after.load_state_dict(opened)
    with torch.no_grad():
        assert torch.allclose(after(x), model(x), atol=1e-5)
        model.anneal(0.5)  # what the taps outside would have done
        assert not torch.allclose(after(x), model(x), atol=1e-3)


def test_a_shallower_tiny_is_grown(run: Runs, float_net: Path) -> None:
    deeper, start = {"depth": 5}, {"init": str(float_net / "notfused.pth")}
    second = run("second", model=deeper, float=start | {"lr": 0.0, "steps": 2})
    first, grown = (arch.load(out / "notfused.pth") for out in (float_net, second))
    assert isinstance(grown, arch.AetherTiny)
    assert grown.config.depth == 5
    image = torch.rand(1, 3, 12, 13)
    with torch.no_grad():
        assert torch.equal(first(image), grown(image))
    third = run("third", model=deeper, float=start | {"steps": 2})
    assert all(trained(third)[f"blocks.2.{k}.weight"].abs().max() > 0 for k in ("conv", "project"))
    # a float stage is not grown behind its back, and none is shortened
    assert "depth=3" in run.refused("net", "--stage", "qat", model=deeper)
    assert "depth=5" in run.refused("fourth", float={"init": str(third / "notfused.pth")})


def test_frozen_batch_norms_keep_their_averages(run: Runs) -> None:
    def state(out: str, **options: Any) -> State:
        model = {"scale": 2, "norm": "batch"}
        options = {"steps": 2, "batch": 1} | options
        return trained(run(out, variant="aether_small", model=model, float=options))

    live, frozen, one = state("live"), state("frozen", freeze_norm=0.5), state("one", steps=1)
    kept = state("kept", init=str(run.folder / "live" / "notfused.pth"), freeze_norm=0.0)
    key = "layers.0.0.norm.running_var"
    assert torch.equal(frozen[key], one[key]) and not torch.equal(frozen[key], live[key])
    assert torch.equal(live[key], kept[key])
    assert not torch.equal(live["conv_first.weight"], kept["conv_first.weight"])


def test_the_distance_is_that_of_the_measure() -> None:
    a, b = np.random.default_rng(0).random((2, 6, 5, 3))
    error = torch.tensor(a - b).permute(2, 0, 1)[None]
    y = np.abs(metrics.luma(255 * a) - metrics.luma(255 * b)).mean() / 219  # of limited range
    assert float(train.distance(error, 0.0)) == pytest.approx(np.abs(a - b).mean())
    assert float(train.distance(error, 2.0)) == pytest.approx(np.abs(a - b).mean() + 2 * y)


@pytest.mark.parametrize("option", ["luma", "fft_weight"])
def test_the_weights_of_the_loss_count_in_both_stages(run: Runs, float_net: Path, option: str) -> None:
    def state(stage: str, kind: str, weight: float) -> State:
        out = shutil.copytree(float_net, run.folder / f"{stage}{weight}") if stage == "qat" else f"{weight}"
        return trained(run(Path(out).name, "--stage", stage, **{stage: {option: weight, "steps": 3}}), kind)

    for stage, kind in (("float", "notfused"), ("qat", "qat")):
        assert not same(state(stage, kind, 2.0), state(stage, kind, 0.0))


def test_a_loss_that_is_not_finite_stops_the_run(run: Runs, monkeypatch: Patch) -> None:
    distance = train.distance
    monkeypatch.setattr(train, "distance", lambda *a: distance(*a) * float("nan"))
    assert "not finite" in run.refused("net")
    assert not (run.folder / "net" / "notfused.pth").exists()


def test_the_mean_of_flips_turns_with_the_picture() -> None:
    torch.manual_seed(0)
    network = arch.aether_tiny(2, embed_dim=8, depth=3)
    torch.nn.init.normal_(network.get_parameter("conv_last.conv.weight"))
    x = torch.rand(1, 3, 12, 10)
    assert torch.allclose(train.mean_of_flips(network, x, 1), network(x), atol=1e-5)
    for count, turn in ((2, lambda t: t.flip(2)), (4, lambda t: t.flip(3)), (8, lambda t: t.transpose(2, 3))):
        mean = train.mean_of_flips(network, x, count)
        assert torch.allclose(train.mean_of_flips(network, turn(x), count), turn(mean), atol=1e-5)
        assert not torch.allclose(network(turn(x)), turn(network(x)), atol=1e-3)


@pytest.fixture
def errors(monkeypatch: Patch) -> list[Tensor]:
    """Every difference of which a step takes the distance; the spectral loss is asked for the same ones."""
    seen: list[Tensor] = []
    distance, spectral = train.distance, train.spectral

    def watched(error: Tensor) -> Tensor:
        assert torch.equal(error, seen[-1])
        return spectral(error)

    monkeypatch.setattr(train, "distance", lambda e, luma: (seen.append(e.detach()), distance(e, luma))[1])
    monkeypatch.setattr(train, "spectral", watched)
    return seen


def test_an_answer_is_a_second_target(run: Runs, finished: Path, monkeypatch: Patch, errors: list[Tensor]) -> None:
    """Beside HR, or in their mean."""
    monkeypatch.setattr(train, "mean_of_flips", lambda teacher, lr, count: torch.full((2, 3, 32, 32), 0.5))
    options = {"teacher": str(finished / "notfused.pth"), "steps": 3}
    run("both", float=options)
    assert len(errors) == 2 * 3
    to_hr, to_teacher = errors[:2]
    levels = (to_teacher - to_hr + 0.5) * 255  # (sr - 0.5) - (sr - hr) + 0.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert levels.std() > 1
    run("mean", float=options | {"target": "mean"})
    assert len(errors) == 3 * 3
    # the first step's, from the same weights
    assert torch.allclose(errors[6], (to_hr + to_teacher) / 2, atol=1e-6)
    assert not torch.allclose(to_hr, to_teacher, atol=0.1)


def test_an_answer_is_the_only_target(run: Runs, float_net: Path, monkeypatch: Patch, errors: list[Tensor]) -> None:
    answers: list[Tensor] = []
    mean = train.mean_of_flips
    monkeypatch.setattr(train, "mean_of_flips", lambda *args: (answers.append(mean(*args)), answers[-1])[1])
    run("net", "--stage", "qat", qat={"target": "teacher"})
    assert len(errors) == len(answers) == 6
    assert all(e.abs().max() < 0.1 < a.std() for e, a in zip(errors, answers, strict=True))  # rounding, not HR


def test_a_teacher_is_heard_alone_and_turned_and_after_resuming(run: Runs, finished: Path, capsys: Capture) -> None:
    teacher = {"teacher": str(finished / "notfused.pth")}
    turned, single = run("turned", float=teacher | {"ensemble": 4}), run("single", float=teacher)
    parts = run.killed("parts", float=teacher | {"ensemble": 4})
    run("parts", float=teacher | {"ensemble": 4})  # the teacher is read again
    assert "resumed at step 4\n" in capsys.readouterr().out
    run("parts", float={"teacher": str(turned / "notfused.pth"), "ensemble": 4})
    assert "teacher_sha256" in capsys.readouterr().out
    assert same(trained(turned), trained(parts))
    assert not same(trained(turned), trained(single)) and not same(trained(single), trained(finished))
