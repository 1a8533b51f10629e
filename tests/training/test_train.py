"""What a step minimises: the distance, its weights, its targets; and a loss that is not finite."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import arch
from export import metrics
from training import train

from .conftest import Refused, Run, same, toy, trained


def test_other_scales_are_validated(run: Run, tmp_path: Path) -> None:
    """The validation crop is no multiple of 3."""
    config = toy()
    config["model"]["scale"] = 3
    assert run("net", config=config) == 0


def test_the_distance_is_that_of_the_measure() -> None:
    a, b = np.random.default_rng(0).random((2, 6, 5, 3))
    error = torch.tensor(a - b).permute(2, 0, 1)[None]
    y = np.abs(metrics.luma(255 * a) - metrics.luma(255 * b)).mean() / 219  # of limited range
    assert float(train.distance(error, 0.0)) == pytest.approx(np.abs(a - b).mean())
    assert float(train.distance(error, 2.0)) == pytest.approx(np.abs(a - b).mean() + 2 * y)


@pytest.mark.parametrize("option", ["luma", "fft_weight"])
def test_the_weights_of_the_loss_count_in_both_stages(run: Run, tmp_path: Path, option: str) -> None:
    results = []
    for out, weight in (("net", 2.0), ("plain", 0.0)):
        config = toy()
        config["float"][option] = weight
        assert run(out, config=config) == 0
        results.append(trained(tmp_path / out))
    shutil.copytree(tmp_path / "plain", tmp_path / "weighed")
    for out, weight in (("plain", 0.0), ("weighed", 2.0)):  # from one and the same float network
        config = toy()
        config["qat"][option] = weight
        assert run(out, "--stage", "qat", config=config) == 0
        results.append(trained(tmp_path / out, "qat"))
    assert not same(*results[:2])
    assert not same(*results[2:])


def test_a_loss_that_is_not_finite_stops_the_run(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distance = train.distance
    monkeypatch.setattr(train, "distance", lambda *a: distance(*a) * float("nan"))
    assert "not finite" in refused("net")
    assert not (tmp_path / "net" / "notfused.pth").exists()


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
def errors(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every difference of which a step takes the distance; the spectral loss is asked for the same ones."""
    seen: list[Tensor] = []
    distance, spectral = train.distance, train.spectral

    def watched(error: Tensor) -> Tensor:
        assert torch.equal(error, seen[-1])
        return spectral(error)

    monkeypatch.setattr(train, "distance", lambda e, luma: (seen.append(e.detach()), distance(e, luma))[1])
    monkeypatch.setattr(train, "spectral", watched)
    return seen


def test_a_teachers_answer_is_a_target_beside_hr_or_its_mean_with_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[Tensor]
) -> None:
    assert run("first") == 0
    config = toy()
    config["float"]["teacher"] = str(tmp_path / "first" / "notfused.pth")
    errors.clear()
    monkeypatch.setattr(train, "mean_of_flips", lambda teacher, lr, count: torch.full((2, 3, 32, 32), 0.5))
    assert run("both", config=config) == 0
    to_hr, to_teacher = errors[:2]
    assert len(errors) == 2 * config["float"]["steps"]
    levels = (to_teacher - to_hr + 0.5) * 255  # (sr - 0.5) - (sr - hr) + 0.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert levels.std() > 1
    config["float"]["target"] = "mean"
    assert run("mean", config=config) == 0
    assert len(errors) == 3 * config["float"]["steps"]
    first = errors[2 * config["float"]["steps"]]  # the first step's, from the same weights
    assert torch.allclose(first, (to_hr + to_teacher) / 2, atol=1e-6)
    assert not torch.allclose(to_hr, to_teacher, atol=0.1)


def test_a_teachers_answer_can_be_the_only_target(
    run: Run, monkeypatch: pytest.MonkeyPatch, errors: list[Tensor]
) -> None:
    assert run("net") == 0
    errors.clear()
    answers: list[Tensor] = []
    mean = train.mean_of_flips
    monkeypatch.setattr(train, "mean_of_flips", lambda *args: (answers.append(mean(*args)), answers[-1])[1])
    config = toy()
    config["qat"]["target"] = "teacher"
    assert run("net", "--stage", "qat", config=config) == 0
    assert len(errors) == len(answers) == config["qat"]["steps"]
    assert all(e.abs().max() < 0.1 < a.std() for e, a in zip(errors, answers, strict=True))  # rounding, not HR


def test_a_teacher_is_heard_alone_and_turned_and_after_resuming(
    run: Run, kill: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toy()
    assert run("first") == 0
    config["float"] |= {"teacher": str(tmp_path / "first" / "notfused.pth"), "ensemble": 4}
    assert run("net", config=config) == 0
    kill("parts", config=config)
    assert run("parts", config=config) == 0  # the teacher is read again
    assert "resumed at step 4\n" in capsys.readouterr().out
    config["float"]["teacher"] = str(tmp_path / "net" / "notfused.pth")
    assert run("parts", config=config) == 0
    assert "teacher_sha256" in capsys.readouterr().out
    config["float"] |= {"ensemble": 0, "teacher": str(tmp_path / "first" / "notfused.pth")}
    assert run("single", config=config) == 0
    whole, parts, single, without = (trained(tmp_path / out) for out in ("net", "parts", "single", "first"))
    assert same(whole, parts)
    assert not same(whole, single) and not same(single, without)
