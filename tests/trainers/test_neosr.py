"""neosr: its registry wheel, and the unmodified checkout that NEOSR_SRC names, run with the example configurations."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import arch
from export.fuse import fuse_file
from export.ranges import load_quantized

HERE = Path(__file__).parent


# One step of aether_tiny at a scale that is not the networks' default, so that it must come from the configuration.
ONCE_AT_1X = {
    "scale": 1,
    "datasets.train.dataroot_lq": "datasets/train/hr",
    "datasets.val.dataroot_lq": "datasets/val/hr",
    "logger.total_iter": 1,
    "network_g": {"type": "aether_tiny"},
}


def outer(path: Path) -> float:
    """The factor on the outer taps that a checkpoint holds."""
    windows = [v for k, v in arch.read_checkpoint(path).items() if k.endswith(".window")]
    assert windows
    return max(float(w[1]) for w in windows)


def images(folder: Path) -> list[np.ndarray]:
    paths = sorted(folder.rglob("*.png"))
    assert len(paths) == 2, f"{folder}: {paths}"
    return [np.array(Image.open(p)).astype(int) for p in paths]


def test_wheel_trains_validates_saves_and_resumes(neosr_wheel_run: Any) -> None:
    assert "iteration 6" in neosr_wheel_run.output and "resumed at 6" in neosr_wheel_run.output
    model = arch.load(neosr_wheel_run.checkpoint)
    assert isinstance(model, arch.AetherNet)
    assert (model.config.variant, model.config.scale, model.config.deployed_kernel) == ("aether_small", 2, 5)
    assert outer(neosr_wheel_run.checkpoint) == 0.0
    assert len(list((neosr_wheel_run.experiment / "visualization").rglob("*_6.png"))) == 2


def test_wheel_gives_the_scale(
    neosr_wheel_run: Any, run: Callable[..., str], shorten: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "datasets").symlink_to(neosr_wheel_run.root / "datasets")
    changes = ONCE_AT_1X | {"use_amp": False, "bfloat16": False}
    config = shorten("neosr/configs/small_2x_l1.toml", tmp_path / "tiny.toml", changes)
    run(HERE / "wheel_session.py", tmp_path, "-opt", config, cwd=tmp_path)
    model = arch.load(tmp_path / "experiments" / "aether_small_2x_l1" / "models" / "net_g_1.pth")
    assert isinstance(model, arch.AetherTiny) and model.config.scale == 1


def test_trains_validates_and_saves(neosr_run: Any) -> None:
    models = neosr_run.experiment / "models"
    assert {p.name for p in models.iterdir()} == {"net_g_3.pth", "net_g_6.pth", "net_g_latest.pth"}
    assert outer(models / "net_g_3.pth") == pytest.approx(0.25)
    assert outer(models / "net_g_6.pth") == 0.0
    assert "psnr" in neosr_run.output
    arch.fuse(arch.load(neosr_run.checkpoint))


def test_resumes(neosr_run: Any, run: Callable[..., str], shorten: Callable[..., Path]) -> None:
    changes = {"network_g.anneal": 8, "train.scheduler.T_max": 9, "name": "resumed"}
    first = shorten("neosr/configs/small_2x_l1.toml", neosr_run.root / "r.toml", changes | {"logger.total_iter": 3})
    start = (HERE / "run_trainer.py", "neosr", "--root", neosr_run.root, "-opt")
    run(*start, first, cwd=neosr_run.root)
    second = shorten("neosr/configs/small_2x_l1.toml", neosr_run.root / "r.toml", changes)
    output = run(*start, second, "--auto_resume", cwd=neosr_run.root)
    assert "Resuming training from epoch" in output and "iter:      4" in output and "iter:      3" not in output
    models = neosr_run.root / "experiments" / "resumed" / "models"
    assert outer(models / "net_g_3.pth") == pytest.approx(5 / 8)
    assert outer(models / "net_g_6.pth") == pytest.approx(2 / 8)


def test_medium(neosr_root: Path, run: Callable[..., str], shorten: Callable[..., Path]) -> None:
    changes = {"logger.total_iter": 2, "logger.save_checkpoint_freq": 2, "val.val_freq": 9, "train.scheduler.T_max": 2}
    shorten("neosr/configs/medium_2x_l1.toml", neosr_root / "medium.toml", changes)
    run(HERE / "run_trainer.py", "neosr", "-opt", "medium.toml", cwd=neosr_root)
    model = arch.load(neosr_root / "experiments" / "aether_medium_2x_l1" / "models" / "net_g_2.pth")
    assert isinstance(model, arch.AetherNet) and model.config.variant == "aether_medium"


def test_qat_learns_ranges_and_resumes(neosr_qat_run: Any) -> None:
    assert "Resuming training from epoch" in neosr_qat_run.output and "Traceback" not in neosr_qat_run.output
    trained = arch.read_checkpoint(neosr_qat_run.checkpoint)
    before = arch.read_checkpoint(neosr_qat_run.root / "aether_small_2x_start.pth")
    assert trained.keys() == before.keys()
    learnt = [k for k in before if k.endswith("input_quantizer._amax") and not torch.equal(before[k], trained[k])]
    assert len(learnt) > 40, "the ranges were not learnt"
    load_quantized(trained)


def test_test_script_and_fused_checkpoints(
    neosr_run: Any, run: Callable[..., str], shorten: Callable[..., Path]
) -> None:
    fuse_file(neosr_run.checkpoint, neosr_run.root / "fused.pth")
    results = []
    for name, changes in (
        ("unfused", {"path.pretrain_network_g": str(neosr_run.checkpoint)}),
        ("fused", {"path.pretrain_network_g": "fused.pth", "network_g.deploy": True}),
    ):
        config = shorten(
            "neosr/configs/small_2x_test.toml",
            neosr_run.root / f"{name}.toml",
            changes | {"name": name, "num_gpu": 1, "datasets.test_1.pin_memory": False},
        )
        run(HERE / "run_trainer.py", "neosr", "test", "--root", neosr_run.root, "-opt", config, cwd=neosr_run.root)
        results.append(images(neosr_run.root / "experiments" / "results" / name / "images"))
    for unfused, fused in zip(*results, strict=True):
        assert unfused.shape == (64, 64, 3)
        assert abs(unfused - fused).max() <= 1


def test_copied_file(neosr_root: Path, run: Callable[..., str], shorten: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(neosr_root / "neosr", tmp_path / "neosr")
    shutil.copy(neosr_root / "train.py", tmp_path)
    shutil.copy(HERE.parents[1] / "training" / "neosr" / "aether_arch.py", tmp_path / "neosr" / "archs")
    (tmp_path / "datasets").symlink_to(neosr_root / "datasets")
    changes = ONCE_AT_1X | {"logger.save_checkpoint_freq": 1}
    config = shorten("neosr/configs/small_2x_l1.toml", tmp_path / "tiny.toml", changes)
    run(HERE / "run_trainer.py", tmp_path / "train.py", "-opt", config, cwd=tmp_path)
    model = arch.load(tmp_path / "experiments" / "aether_small_2x_l1" / "models" / "net_g_1.pth")
    assert isinstance(model, arch.AetherTiny) and model.config.scale == 1


def test_wrong_folder(run: Callable[..., str], tmp_path: Path) -> None:
    output = run("-m", "training.neosr", "-opt", "x.toml", cwd=tmp_path, expect=2)
    assert "is no checkout of neosr; give its folder with --root" in output
