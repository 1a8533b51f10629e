"""The mean of two checkpoints: a network between them, whose int8 form still holds its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import arch
from training import average

from .conftest import Run, toy


def test_the_mean_lies_between(run: Run, tmp_path: Path) -> None:
    assert run("run") == run("run", "--stage", "qat") == 0
    other = toy()
    other["float"] |= {"init": str(tmp_path / "run" / "notfused.pth"), "lr": 1e-2, "seed": 5}
    other["qat"] |= {"init": str(tmp_path / "run" / "qat.pth"), "lr": 1e-2, "seed": 5}
    assert run("other", config=other) == run("other", "--stage", "qat", config=other) == 0
    for name in ("notfused.pth", "qat.pth"):
        paths = [tmp_path / o / name for o in ("run", "other")]
        target = tmp_path / f"mean_{name}"
        assert average.main([*map(str, paths), str(target), "--share", "0.25"]) == 0
        first, second, mean = map(arch.read_checkpoint, (*paths, target))
        for key, value in mean.items():
            if not key.endswith("weight_quantizer._amax"):
                torch.testing.assert_close(value.float(), 0.75 * first[key].float() + 0.25 * second[key].float())
            elif value.ndim:
                weight = mean[key.replace("weight_quantizer._amax", "weight")]
                assert (value.flatten() >= weight.abs().flatten(1).amax(1)).all()
        assert any(not torch.equal(first[key], mean[key]) for key in mean)
    assert average.main([*map(str, paths), str(target)]) == 1  # not replaced


def test_what_has_no_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, model in (
        ("a", arch.aether_tiny(2, embed_dim=8, depth=3)),
        ("b", arch.aether_tiny(2, embed_dim=16, depth=3)),
    ):
        arch.write_checkpoint(model.state_dict(), tmp_path / f"{name}.pth")
    a, b, out = (str(tmp_path / f"{name}.pth") for name in ("a", "b", "out"))
    assert average.main([a, b, out]) == 1
    assert "(8,)" in (error := capsys.readouterr().err) and "(16,)" in error
    assert average.main([a, a, out, "--share", "1.5"]) == 1
    assert "1.5" in capsys.readouterr().err and not Path(out).exists()


def test_qat_goes_on_from_ranges(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run") == run("run", "--stage", "qat") == 0
    config, qat = toy(), tmp_path / "run" / "qat.pth"
    config["float"] |= {"init": str(tmp_path / "run" / "notfused.pth"), "lr": 0.0}
    config["qat"] |= {"init": str(qat), "lr": 0.0}
    assert run("on", config=config) == run("on", "--stage", "qat", config=config) == 0
    before, after = arch.read_checkpoint(qat), arch.read_checkpoint(tmp_path / "on" / "qat.pth")
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    config["qat"]["init"] = config["float"]["init"]
    assert run("float", config=config) == 0
    assert run("float", "--stage", "qat", config=config) == 1
    assert "quantisation-aware" in capsys.readouterr().err
