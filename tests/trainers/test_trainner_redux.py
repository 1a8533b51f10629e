"""traiNNer-redux, unmodified, from the checkout that TRAINNER_SRC names, run with the example configurations."""

from __future__ import annotations

import re
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


def outer(path: Path) -> float:
    """The factor on the outer taps that a checkpoint holds."""
    windows = [v for k, v in arch.read_checkpoint(path).items() if k.endswith(".window")]
    assert windows
    return max(float(w[1]) for w in windows)


def test_trains_validates_and_saves(trainner_run: Any) -> None:
    models = trainner_run.experiment / "models"
    assert {p.stem for p in models.glob("*.safetensors")} == {f"net_g_ema_{i}" for i in (3, 6, "latest")}
    assert outer(models / "resume_models" / "net_g_3.safetensors") == pytest.approx(0.25)
    assert outer(models / "net_g_ema_3.safetensors") == pytest.approx(0.25, abs=0.01)  # it lags behind a little
    assert outer(models / "resume_models" / "net_g_6.safetensors") == 0.0
    assert outer(models / "net_g_ema_6.safetensors") == 0.0
    assert "psnr" in trainner_run.output and "Traceback" not in trainner_run.output
    model = arch.load(trainner_run.checkpoint)
    assert isinstance(model, arch.AetherNet)
    assert (model.config.variant, model.config.scale, model.config.deployed_kernel) == ("aether_small", 2, 5)
    arch.fuse(model)


def test_resumes(trainner_run: Any, run: Callable[..., str], shorten: Callable[..., Path]) -> None:
    changes = {"network_g.anneal": 8, "train.scheduler.T_max": 6, "name": "resumed"}
    example, path = "trainner_redux/configs/small_2x_l1.yml", trainner_run.root / "r.yml"
    start = (HERE / "run_trainer.py", "trainner_redux", "--root", trainner_run.root, "-opt", path)
    shorten(example, path, changes | {"train.total_iter": 3})
    run(*start, cwd=trainner_run.root)
    shorten(example, path, changes)
    output = run(*start, "--auto_resume", cwd=trainner_run.root)
    assert "Resuming training from epoch" in output and "Traceback" not in output
    models = trainner_run.root / "experiments" / "resumed" / "models"
    assert outer(models / "resume_models" / "net_g_3.safetensors") == pytest.approx(5 / 8)
    assert outer(models / "resume_models" / "net_g_6.safetensors") == pytest.approx(2 / 8)


def test_medium_in_bfloat16(trainner_root: Path, run: Callable[..., str], shorten: Callable[..., Path]) -> None:
    changes = {
        "train.total_iter": 2,
        "logger.save_checkpoint_freq": 2,
        "logger.save_checkpoint_format": "pth",
        "val.val_freq": 9,
        "train.scheduler.T_max": 2,
    }
    config = shorten("trainner_redux/configs/medium_2x_l1.yml", trainner_root / "medium.yml", changes)
    output = run(HERE / "run_trainer.py", "trainner_redux", "--root", trainner_root, "-opt", config, cwd=trainner_root)
    assert "AMP) with fp32 and bf16" in re.sub(r"\s+", " ", output)
    model = arch.load(trainner_root / "experiments" / "2x_aether_medium_l1" / "models" / "net_g_ema_2.pth")
    assert isinstance(model, arch.AetherNet) and model.config.variant == "aether_medium"


def test_qat_learns_ranges_and_resumes(trainner_qat_run: Any) -> None:
    assert "Resuming training from epoch" in trainner_qat_run.output and "Traceback" not in trainner_qat_run.output
    trained = arch.read_checkpoint(trainner_qat_run.checkpoint)
    before = arch.read_checkpoint(trainner_qat_run.root / "aether_small_2x_start.safetensors")
    assert trained.keys() == before.keys()
    learnt = [k for k in before if k.endswith("input_quantizer._amax") and not torch.equal(before[k], trained[k])]
    assert len(learnt) > 40, "the ranges were not learnt"
    load_quantized(trained)


def test_test_script_and_fused_checkpoints(
    trainner_run: Any, run: Callable[..., str], shorten: Callable[..., Path]
) -> None:
    fuse_file(trainner_run.checkpoint, trainner_run.root / "fused.safetensors")
    results = []
    for name, changes in (
        ("unfused", {"path.pretrain_network_g": str(trainner_run.checkpoint)}),
        ("fused", {"path.pretrain_network_g": "fused.safetensors", "network_g.deploy": True}),
    ):
        config = shorten(
            "trainner_redux/configs/small_2x_test.yml",
            trainner_run.root / f"{name}.yml",
            changes | {"name": name, "num_gpu": 0},
        )
        run(
            *(HERE / "run_trainer.py", "trainner_redux", "test", "--root", trainner_run.root, "-opt", config),
            cwd=trainner_run.root,
        )
        paths = sorted((trainner_run.root / "results" / name / "visualization").rglob("*.png"))
        assert len(paths) == 2
        results.append([np.array(Image.open(p)).astype(int) for p in paths])
    for unfused, fused in zip(*results, strict=True):
        assert unfused.shape == (64, 64, 3)
        assert abs(unfused - fused).max() <= 1


def test_its_own_architecture_tests(trainner_root: Path, run: Callable[..., str]) -> None:
    arguments = ("-m", "pytest", "-p", "trainner_plugin", "-q", "-p", "no:cacheprovider")
    output = run(
        *arguments, "tests/test_archs/test_archs.py", "-k", "aether", cwd=trainner_root, path=(trainner_root, HERE)
    )
    assert "32 passed" in output  # 4 variants, 4 scales, inference and a training step


def test_copied_file(
    trainner_root: Path, run: Callable[..., str], shorten: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(trainner_root / "traiNNer", tmp_path / "traiNNer")
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(trainner_root / name, tmp_path)
    (tmp_path / "scripts").symlink_to(trainner_root / "scripts")
    (tmp_path / "datasets").symlink_to(trainner_root / "datasets")
    shutil.copy(HERE.parents[1] / "training" / "trainner_redux" / "aether_arch.py", tmp_path / "traiNNer" / "archs")
    changes = {
        "scale": 1,  # not the networks' default, so that it must come from here
        "datasets.train.dataroot_lq": "datasets/train/hr",
        "datasets.val.dataroot_lq": "datasets/val/hr",
        "train.total_iter": 1,
        "logger.save_checkpoint_freq": 1,
        "network_g": {"type": "aether_tiny"},
    }
    config = shorten("trainner_redux/configs/small_2x_l1.yml", tmp_path / "tiny.yml", changes)
    run(HERE / "run_trainer.py", tmp_path / "train.py", "-opt", config, cwd=tmp_path)
    model = arch.load(tmp_path / "experiments" / "2x_aether_small_l1" / "models" / "net_g_ema_1.safetensors")
    assert isinstance(model, arch.AetherTiny) and model.config.scale == 1


def test_wrong_folder(run: Callable[..., str], tmp_path: Path) -> None:
    output = run("-m", "training.trainner_redux", "-opt", "x.yml", cwd=tmp_path, expect=2)
    assert "is no checkout of traiNNer; give its folder with --root" in output
