"""What a stage starts from: a checkpoint, or the float network equalised and quantised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import arch
from export import quantizer
from training import train

from .conftest import Run, toy


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
    student = train.fake_quantise(teacher, train.Stage(steps=1, lr=1e-4), batches)
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


def test_fine_tuning_starts_from_the_checkpoint(run: Run, tmp_path: Path) -> None:
    assert run("first") == 0
    source = tmp_path / "first" / "notfused.pth"
    config = toy()
    config["float"] |= {"init": str(source), "lr": 0.0, "steps": 2, "seed": 9}
    assert run("second", config=config) == 0
    first, second = (arch.read_checkpoint(tmp_path / o / "notfused.pth") for o in ("first", "second"))
    assert all(torch.equal(first[k], second[k]) for k in first)
    config["float"] |= {"lr": 1e-3}
    assert run("third", config=config) == 0
    third = arch.read_checkpoint(tmp_path / "third" / "notfused.pth")
    assert not torch.equal(first["blocks.0.conv.weight"], third["blocks.0.conv.weight"])
    assert torch.allclose(first["blocks.0.conv.weight"], third["blocks.0.conv.weight"], atol=2e-3)


def test_an_annealed_kernel_opens_again_on_the_same_network(run: Run, tmp_path: Path) -> None:
    model, source = small(), tmp_path / "small.safetensors"
    arch.write_checkpoint(model.state_dict(), source)
    config = toy()
    config["variant"] = "aether_small"
    config["float"] |= {"init": str(source), "lr": 0.0, "steps": 2, "anneal": (0.4, 0.6), "freeze_norm": 0.0}
    del config["model"]
    assert run("net", config=config) == 0
    opened = arch.read_checkpoint(tmp_path / "net" / "notfused.pth")
    windows = [v.tolist() for k, v in opened.items() if k.endswith("window")]
    assert windows == [[5.0, pytest.approx(0.5)]] * 16
    trained, x = small(), torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(3))
    trained.load_state_dict(opened)
    with torch.no_grad():
        assert torch.allclose(trained(x), model(x), atol=1e-5)
        model.anneal(0.5)  # what the taps outside would have done
        assert not torch.allclose(trained(x), model(x), atol=1e-3)


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


def test_a_teacher_is_heard_beside_hr(run: Run, kill: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy()
    config["float"]["ensemble"] = 4
    assert run("net", config=config) == 1
    assert "ensemble and target need a teacher" in capsys.readouterr().err
    config = toy()
    for target in ("teacher", "mean"):
        config["float"]["target"] = target
        assert run("net", config=config) == 1
        assert "ensemble and target need a teacher" in capsys.readouterr().err
    config = toy()
    config["float"]["ensemble"] = 4
    assert run("first") == 0
    config["float"]["teacher"] = str(tmp_path / "first" / "notfused.pth")
    assert run("net", config=config) == 0
    kill("parts", config=config)
    assert run("parts", config=config) == 0  # the teacher is read again
    assert "resumed at step 4\n" in capsys.readouterr().out
    config["float"]["teacher"] = str(tmp_path / "net" / "notfused.pth")
    assert run("parts", config=config) == 0
    assert "teacher_sha256" in capsys.readouterr().out
    config["float"] |= {"ensemble": 0, "teacher": str(tmp_path / "first" / "notfused.pth")}
    assert run("single", config=config) == 0
    whole, parts, single, without = (
        arch.read_checkpoint(tmp_path / out / "notfused.pth") for out in ("net", "parts", "single", "first")
    )
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    assert any(not torch.equal(whole[k], single[k]) for k in whole)
    assert any(not torch.equal(single[k], without[k]) for k in whole)


def test_the_teachers_answer_and_hr_are_both_targets(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("first") == 0
    config = toy()
    config["float"]["teacher"] = str(tmp_path / "first" / "notfused.pth")
    errors: list[torch.Tensor] = []
    distance = train.distance
    monkeypatch.setattr(train, "distance", lambda e, luma: (errors.append(e.detach()), distance(e, luma))[1])
    monkeypatch.setattr(train, "mean_of_flips", lambda teacher, lr, count: torch.full((2, 3, 32, 32), 0.5))
    assert run("net", config=config) == 0
    assert len(errors) == 2 * config["float"]["steps"]
    levels = (errors[1] - errors[0] + 0.5) * 255  # (sr - 0.5) - (sr - hr) + 0.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert levels.std() > 1


def test_the_target_can_be_the_mean_of_hr_and_the_answer(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("first") == 0
    config = toy()
    config["float"]["teacher"] = str(tmp_path / "first" / "notfused.pth")
    errors: list[torch.Tensor] = []
    spectra: list[torch.Tensor] = []
    distance, spectral = train.distance, train.spectral
    monkeypatch.setattr(train, "distance", lambda e, luma: (errors.append(e.detach()), distance(e, luma))[1])
    monkeypatch.setattr(train, "spectral", lambda e: (spectra.append(e.detach()), spectral(e))[1])
    monkeypatch.setattr(train, "mean_of_flips", lambda teacher, lr, count: torch.full((2, 3, 32, 32), 0.5))
    assert run("both", config=config) == 0
    to_hr, to_teacher = errors[:2]
    errors.clear()
    spectra.clear()
    config["float"]["target"] = "mean"
    assert run("mean", config=config) == 0
    assert len(errors) == len(spectra) == config["float"]["steps"]
    assert torch.equal(errors[0], spectra[0])
    assert torch.allclose(errors[0], (to_hr + to_teacher) / 2, atol=1e-6)  # the first step's, from the same weights
    assert not torch.allclose(to_hr, to_teacher, atol=0.1)


def test_the_teachers_answer_can_be_the_only_target(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("net") == 0
    errors: list[torch.Tensor] = []
    spectra: list[torch.Tensor] = []
    distance, spectral = train.distance, train.spectral
    monkeypatch.setattr(train, "distance", lambda e, luma: (errors.append(e.detach()), distance(e, luma))[1])
    monkeypatch.setattr(train, "spectral", lambda e: (spectra.append(e.detach()), spectral(e))[1])
    answers: list[torch.Tensor] = []
    mean = train.mean_of_flips
    monkeypatch.setattr(train, "mean_of_flips", lambda *args: (answers.append(mean(*args)), answers[-1])[1])
    config = toy()
    config["qat"]["target"] = "teacher"
    assert run("net", "--stage", "qat", config=config) == 0
    steps = config["qat"]["steps"]
    assert len(errors) == len(spectra) == len(answers) == steps
    for error, spectrum, answer in zip(errors, spectra, answers, strict=True):
        assert torch.equal(error, spectrum)
        assert error.abs().max() < 0.1 < answer.std()  # the rounding, no distance to HR


def test_a_teacher_of_another_kind_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, network in (("scale", arch.aether_tiny(3)), ("grey", arch.aether_tiny(2, in_chans=1))):
        config = toy()
        config["float"]["teacher"] = str(tmp_path / f"{name}.pth")
        arch.write_checkpoint(network.state_dict(), Path(config["float"]["teacher"]))
        assert run(name, config=config) == 1
        said = capsys.readouterr()
        assert "a teacher here needs (2, 3)" in said.err
        assert "images," not in said.out  # before gigabytes of them are decoded
        assert not (tmp_path / name).exists()
    config["float"]["teacher"] = str(tmp_path / "nothing.safetensors")
    assert run("nothing", config=config) == 1
    assert "nothing.safetensors" in capsys.readouterr().err


def test_a_shallower_tiny_is_grown(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("first") == 0
    source = tmp_path / "first" / "notfused.pth"
    config = toy()
    config["model"]["depth"] = 5
    config["float"] |= {"init": str(source), "lr": 0.0, "steps": 2}
    assert run("second", config=config) == 0
    first, second = (arch.load(tmp_path / o / "notfused.pth") for o in ("first", "second"))
    assert isinstance(second, arch.AetherTiny)
    assert second.config.depth == 5
    image = torch.rand(1, 3, 12, 13)
    with torch.no_grad():
        assert torch.equal(first(image), second(image))
    config["float"] |= {"lr": 1e-3}
    assert run("third", config=config) == 0
    third = arch.read_checkpoint(tmp_path / "third" / "notfused.pth")
    assert all(third[f"blocks.2.{k}.weight"].abs().max() > 0 for k in ("conv", "project"))
    assert run("first", "--stage", "qat", config=config) == 1  # a float stage is not grown behind its back
    assert "depth=3" in capsys.readouterr().err
    config["model"]["depth"] = 3
    config["float"]["init"] = str(tmp_path / "third" / "notfused.pth")
    assert run("fourth", config=config) == 1
    assert "depth=5" in capsys.readouterr().err


def test_frozen_batch_norms_keep_their_averages(run: Run, tmp_path: Path) -> None:
    config = toy()
    config |= {"variant": "aether_small", "model": {"scale": 2, "norm": "batch"}}
    config["float"]["steps"] = 2
    assert run("live", config=config) == 0
    config["float"] |= {"freeze_norm": 0.5}
    assert run("frozen", config=config) == 0
    config["float"] |= {"init": str(tmp_path / "live" / "notfused.pth"), "freeze_norm": 0.0}
    assert run("kept", config=config) == 0
    paths = [tmp_path / out / "notfused.pth" for out in ("live", "frozen", "kept")]
    live, frozen, kept = map(arch.read_checkpoint, paths)
    key = "layers.0.0.norm.running_var"
    assert not torch.equal(live[key], frozen[key])
    assert torch.equal(live[key], kept[key])
    assert not torch.equal(live["conv_first.weight"], kept["conv_first.weight"])


def test_without_a_model_the_network_is_the_checkpoints(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("first") == 0
    config = toy()
    source = tmp_path / "first" / "notfused.pth"
    config["float"] |= {"init": str(source), "lr": 0.0}
    config.pop("model")
    assert run("second", config=config) == 0
    assert run("second", config=config) == 0
    assert run("second", "--stage", "qat", config=config) == 0
    first, second = (arch.read_checkpoint(tmp_path / o / "notfused.pth") for o in ("first", "second"))
    assert all(torch.equal(first[k], second[k]) for k in first)
    fused = tmp_path / "fused.safetensors"
    arch.write_checkpoint(arch.fuse(arch.load(source)).state_dict(), fused)
    config["float"]["init"] = str(fused)
    assert run("third", config=config) == 1
    assert "give a *_notfused checkpoint" in capsys.readouterr().err
    config |= {"variant": "aether_small"}
    config["float"]["init"] = str(source)
    assert run("third", config=config) == 1
    assert "is no aether_small as it is trained" in capsys.readouterr().err


def test_a_checkpoint_that_does_not_fit_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("first") == 0
    config = toy()
    config["model"]["embed_dim"] = 16
    config["float"]["init"] = str(tmp_path / "first" / "notfused.pth")
    assert run("second", config=config) == 1
    assert "embed_dim=8" in (message := capsys.readouterr().err)
    assert "asks for AetherTinyConfig(embed_dim=16" in message
    config["float"]["init"] = str(tmp_path / "nowhere.safetensors")
    assert run("second", config=config) == 1
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "second").exists()
    config["float"].pop("init")
    assert run("first", "--stage", "qat", config=config) == 1  # the float stage was another network's
    assert "asks for AetherTinyConfig(embed_dim=16" in capsys.readouterr().err
    assert run("second", "--stage", "qat") == 1
    assert "notfused.pth: there is no such file" in capsys.readouterr().err
