"""neosr's registry wheel, and unmodified checkouts of neosr and traiNNer-redux, which variables name, trained with the
example configurations; and what they trained in VapourSynth, with nothing in between.
"""

import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from spandrel import ImageModelDescriptor, ModelLoader

import arch
from export.build.__main__ import main as build
from export.fuse import fuse_file
from export.ranges import load_quantized

from .conftest import AT_1X, HERE, NEOSR, REDUX, ROOT, Checkout, Trainer, outer, run_python, wheel_session


def test_the_wheel_trains_validates_saves_and_resumes(wheel: tuple[Path, str]) -> None:
    experiment, output = wheel
    assert "iteration 6" in output and "resumed at 6" in output
    model = arch.load(experiment / "models" / "net_g_6.pth")
    assert isinstance(model, arch.AetherNet)
    assert (model.config.variant, model.config.scale, model.config.deployed_kernel) == ("aether_small", 2, 5)
    assert outer(experiment / "models" / "net_g_6.pth") == 0.0
    assert len(list((experiment / "visualization").rglob("*_6.png"))) == 2


def test_the_wheel_gives_the_scale(wheel: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    experiment, _ = wheel_session(tmp_path, data, AT_1X | {"logger.total_iter": 1})
    model = arch.load(experiment / "models" / "net_g_1.pth")
    assert isinstance(model, arch.AetherTiny) and model.config.scale == 1


def test_trains_validates_and_saves(checkout: Checkout, float_output: str) -> None:
    assert "psnr" in float_output and "Traceback" not in float_output
    saved = [checkout.average("float", step) for step in (3, 6, "latest")]
    assert sorted(saved[0].parent.glob(f"*{saved[0].suffix}")) == saved
    assert outer(checkout.weights("float", 3)) == pytest.approx(0.25)
    assert outer(saved[0]) == pytest.approx(0.25, abs=0.01)  # an average lags behind a little
    assert outer(checkout.weights("float", 6)) == outer(saved[1]) == 0.0
    model = arch.load(saved[1])
    assert isinstance(model, arch.AetherNet)
    assert (model.config.variant, model.config.scale, model.config.deployed_kernel) == ("aether_small", 2, 5)
    arch.fuse(model)


def test_resumes(checkout: Checkout) -> None:
    changes = {"network_g.anneal": 8}
    checkout.run("resumed", "small_2x_l1", changes | {checkout.trainer.steps: 3})
    output = checkout.run("resumed", "small_2x_l1", changes, "--auto_resume")
    assert "Resuming training from epoch" in output and "Traceback" not in output
    steps = re.findall(r"iter: {2,}(\d+)", output)  # what is logged of each
    assert "4" in steps and "3" not in steps
    assert outer(checkout.weights("resumed", 3)) == pytest.approx(5 / 8)
    assert outer(checkout.weights("resumed", 6)) == pytest.approx(2 / 8)


def test_medium(checkout: Checkout) -> None:
    """In bfloat16; the launcher is called in the checkout, without --root."""
    trainer = checkout.trainer
    changes = {"name": "medium", trainer.steps: 2, "logger.save_checkpoint_freq": 2, "val.val_freq": 9}
    if trainer is REDUX:
        changes["logger.save_checkpoint_format"] = "pth"
    config = trainer.configure(checkout.root / f"medium{trainer.suffix}", "medium_2x_l1", changes)
    output = run_python(HERE / "run_trainer.py", trainer.name, "-opt", config.name, cwd=checkout.root)
    if trainer is REDUX:
        assert "AMP) with fp32 and bf16" in re.sub(r"\s+", " ", output)
    model = arch.load(checkout.average("medium", 2).with_suffix(".pth"))
    assert isinstance(model, arch.AetherNet) and model.config.variant == "aether_medium"


def test_qat_learns_ranges_and_resumes(checkout: Checkout, qat_output: str) -> None:
    assert "Resuming training from epoch" in qat_output and "Traceback" not in qat_output
    trained = arch.read_checkpoint(checkout.average("qat", 6))
    before = arch.read_checkpoint(next(checkout.root.glob("aether_small_2x_start.*")))
    assert trained.keys() == before.keys()
    learnt = [k for k in before if k.endswith("input_quantizer._amax") and not torch.equal(before[k], trained[k])]
    assert len(learnt) > 40, "the ranges were not learnt"
    load_quantized(trained)


def test_test_script_and_fused_checkpoints(checkout: Checkout, float_output: str) -> None:
    trained = checkout.average("float", 6)
    fused = checkout.root / f"fused{trained.suffix}"
    fuse_file(trained, fused)
    results = []
    for name, changes in (
        ("unfused", {"path.pretrain_network_g": str(trained)}),
        ("fused", {"path.pretrain_network_g": fused.name, "network_g.deploy": True}),
    ):
        checkout.run(name, "small_2x_test", changes)
        paths = sorted((checkout.root / checkout.trainer.results.format(name)).rglob("*.png"))
        assert len(paths) == 2
        results.append([np.array(Image.open(p)).astype(int) for p in paths])
    for one, other in zip(*results, strict=True):
        assert one.shape == (64, 64, 3)
        assert abs(one - other).max() <= 1


@pytest.mark.parametrize("checkout", [REDUX], indirect=True, ids=[REDUX.name])
def test_its_own_architecture_tests(checkout: Checkout) -> None:
    words = ("-m", "pytest", "-p", "trainner_plugin", "-q", "-p", "no:cacheprovider", "-k", "aether")
    output = run_python(*words, "tests/test_archs/test_archs.py", cwd=checkout.root, path=(checkout.root, HERE))
    assert "32 passed" in output  # 4 variants, 4 scales, inference and a training step


def test_copied_file(checkout: Checkout, data: Path, tmp_path: Path) -> None:
    """Our file in the trainer's package instead of our launcher; the scale is that of the configuration."""
    trainer, copy = checkout.trainer, Checkout(checkout.trainer, tmp_path, data)
    package = tmp_path / trainer.package
    package.unlink()
    shutil.copytree(checkout.source / trainer.package, package)
    shutil.copy(ROOT / "training" / trainer.name / "aether_arch.py", package / "archs")
    changes = AT_1X | {"name": "tiny", trainer.steps: 1}
    config = trainer.configure(tmp_path / f"tiny{trainer.suffix}", "small_2x_l1", changes)
    run_python(HERE / "run_trainer.py", tmp_path / "train.py", "-opt", config, cwd=tmp_path)
    model = arch.load(copy.average("tiny", 1))
    assert isinstance(model, arch.AetherTiny) and model.config.scale == 1


@pytest.mark.parametrize("trainer", [NEOSR, REDUX], ids=lambda trainer: trainer.name)
def test_wrong_folder(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    launcher = importlib.import_module(f"training.{trainer.name}.__main__")
    assert launcher.main(["-opt", "x"]) == 2
    assert f"is no checkout of {trainer.package}; give its folder with --root" in capsys.readouterr().err


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Of 8-bit colour values, in dB."""
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def check(checkpoint: Path, data: Path, folder: Path) -> None:
    """spandrel detects a checkpoint, and its int8 engine does in VapourSynth what the network does."""
    arch.install(ignore_duplicates=True)
    descriptor = ModelLoader().load_from_file(checkpoint)
    assert isinstance(descriptor, ImageModelDescriptor)
    assert descriptor.architecture.id == "AetherNet" and descriptor.scale == 2
    options = ("--int8", "--calibration", data / "val" / "hr", "--model", checkpoint, "--out", folder / "engines")
    assert build([str(option) for option in options]) == 0
    (engine,) = (folder / "engines").glob("*_int8.onnx")
    source = sorted((data / "val" / "lr").glob("*.png"))[0]
    # in a process of its own: openvino's Python package, which the export uses, cannot share one with the plugin
    run_python("-m", "vsaether.cli", "upscale", source, folder / "result.png", "--engine", engine, cwd=folder)
    result = np.array(Image.open(folder / "result.png")).astype(float)
    lr = np.array(Image.open(source).convert("RGB"))
    expected = descriptor(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0).numpy() * 255
    assert result.shape == expected.shape == (64, 64, 3)
    nearest = lr.astype(float).repeat(2, 0).repeat(2, 1)
    print(f"int8 in VapourSynth against the trained network: {psnr(result, expected):.1f} dB")
    assert psnr(result, expected) > 50
    assert psnr(nearest, expected) < 40, "the network must do far more than its image residual"


def test_of_the_wheel(wheel: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    check(wheel[0] / "models" / "net_g_6.pth", data, tmp_path)


@pytest.mark.parametrize("name", ["float", "qat"])
def test_of_a_checkout(checkout: Checkout, qat_output: str, name: str, data: Path, tmp_path: Path) -> None:
    check(checkout.average(name, 6), data, tmp_path)
