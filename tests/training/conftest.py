"""Fixtures of the training tests: pictures, and the training script on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image

import arch
from training import data, train

Run = Callable[..., int]
Refused = Callable[..., str]
State = dict[str, torch.Tensor]


def trained(out: Path, kind: str = "notfused") -> State:
    """The result of a stage in a run's folder."""
    return arch.read_checkpoint(out / f"{kind}.pth")


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def toy() -> dict[str, Any]:
    """The configuration of a network of three layers, trained for six steps in each stage."""
    stage: dict[str, Any] = {"batch": 2, "patch": 16, "save_every": 2}
    return {
        "variant": "aether_tiny",
        "model": {"scale": 2, "embed_dim": 8, "depth": 3},
        "float": {"steps": 6, "lr": 1e-3, "warmup": 2, **stage},
        "qat": {"steps": 6, "lr": 1e-4, "warmup": 1, "freeze_ranges": 0.5, "calibration_batches": 2, **stage},
    }


def smooth_pictures(folder: Path) -> Path:
    """A folder of three smooth pictures of 90x80 pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = rng.integers(0, 256, (16, 18, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((90, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three smooth pictures."""
    return smooth_pictures(tmp_path / "images")


@pytest.fixture
def run(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(out, *options, config=toy()) -> exit code of training.train, which writes to tmp_path / out."""

    def call(out: str, *options: str, config: dict[str, Any] | None = None) -> int:
        path = tmp_path / "toy.toml"
        path.write_text(tomli_w.dumps(config or toy()))
        argv = ["train", str(path), "--data", str(images), "--val", str(images), "--out", str(tmp_path / out)]
        monkeypatch.setattr(sys, "argv", [*argv, "--device", "cpu", "--threads", "1", *options])
        monkeypatch.setattr(data, "VALIDATION_CROP", 32)
        return train.main()

    return call


@pytest.fixture
def refused(run: Run, capsys: pytest.CaptureFixture[str]) -> Refused:
    """refused(out, *options, config=toy()) -> what a run says that ends with exit code 1."""

    def call(*words: str, config: dict[str, Any] | None = None) -> str:
        capsys.readouterr()
        assert run(*words, config=config) == 1
        return capsys.readouterr().err

    return call


@pytest.fixture
def kill(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """kill(out, *options, config=toy()): start a run that is killed right after it has saved its state twice."""

    def call(out: str, *options: str, config: dict[str, Any] | None = None) -> int:
        save, saves = train.save_state, []

        def killed(*args: object) -> None:
            save(*args)  # type: ignore[arg-type]
            saves.append(1)
            if len(saves) == 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(train, "save_state", killed)
            code = run(out, *options, config=config)
        assert code == 130
        return code

    return call
