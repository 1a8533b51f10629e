"""What a stage starts from: a checkpoint, or the float network equalised and quantised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import arch
from export import quantizer
from training import train

from .conftest import Refused, Run, same, toy, trained


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
    """Without a [model] the network is the checkpoint's."""
    assert run("first") == 0
    config = toy()
    config.pop("model")
    config["float"] |= {"init": str(tmp_path / "first" / "notfused.pth"), "lr": 0.0, "steps": 2, "seed": 9}
    for options in ((), (), ("--stage", "qat")):
        assert run("second", *options, config=config) == 0
    assert same(trained(tmp_path / "first"), trained(tmp_path / "second"))
    config |= {"model": toy()["model"]}
    config["float"] |= {"lr": 1e-3}
    assert run("third", config=config) == 0
    first, third = (trained(tmp_path / out)["blocks.0.conv.weight"] for out in ("first", "third"))
    assert not torch.equal(first, third)
    assert torch.allclose(first, third, atol=2e-3)


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


def test_a_shallower_tiny_is_grown(run: Run, refused: Refused, tmp_path: Path) -> None:
    assert run("first") == 0
    config = toy()
    config["model"]["depth"] = 5
    config["float"] |= {"init": str(tmp_path / "first" / "notfused.pth"), "lr": 0.0, "steps": 2}
    assert run("second", config=config) == 0
    first, second = (arch.load(tmp_path / o / "notfused.pth") for o in ("first", "second"))
    assert isinstance(second, arch.AetherTiny)
    assert second.config.depth == 5
    image = torch.rand(1, 3, 12, 13)
    with torch.no_grad():
        assert torch.equal(first(image), second(image))
    config["float"] |= {"lr": 1e-3}
    assert run("third", config=config) == 0
    third = trained(tmp_path / "third")
    assert all(third[f"blocks.2.{k}.weight"].abs().max() > 0 for k in ("conv", "project"))
    # a float stage is not grown behind its back
    assert "depth=3" in refused("first", "--stage", "qat", config=config)
    config["model"]["depth"] = 3
    config["float"]["init"] = str(tmp_path / "third" / "notfused.pth")
    assert "depth=5" in refused("fourth", config=config)


def test_frozen_batch_norms_keep_their_averages(run: Run, tmp_path: Path) -> None:
    config = toy()
    config |= {"variant": "aether_small", "model": {"scale": 2, "norm": "batch"}}
    config["float"] |= {"steps": 2, "batch": 1}
    assert run("live", config=config) == 0
    config["float"] |= {"freeze_norm": 0.5}
    assert run("frozen", config=config) == 0
    config["float"] |= {"init": str(tmp_path / "live" / "notfused.pth"), "freeze_norm": 0.0}
    assert run("kept", config=config) == 0
    live, frozen, kept = (trained(tmp_path / out) for out in ("live", "frozen", "kept"))
    key = "layers.0.0.norm.running_var"
    assert not torch.equal(live[key], frozen[key])
    assert torch.equal(live[key], kept[key])
    assert not torch.equal(live["conv_first.weight"], kept["conv_first.weight"])
