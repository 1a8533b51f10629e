"""Fixtures of the training tests: pictures, the training script on them, and a run that is finished."""

import contextlib
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image

import arch
from training import data, train

from ..nets import same as same

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
State = dict[str, torch.Tensor]
Config = dict[str, Any]


def toy(**changes: Any) -> Config:
    """The configuration of a network of three layers, trained for six steps in each stage.

    changes: of its sections, into which they are merged (another variant's model excepted); None removes an entry.
    """
    stage: Config = {"batch": 2, "patch": 16, "save_every": 2}
    config: Config = {
        "variant": "aether_tiny",
        "model": {"scale": 2, "embed_dim": 8, "depth": 3},
        "float": {"steps": 6, "lr": 1e-3, "warmup": 2, **stage},
        "qat": {"steps": 6, "lr": 1e-4, "warmup": 1, "freeze_ranges": 0.5, "calibration_batches": 2, **stage},
    }
    for name, value in changes.items():
        if isinstance(value, dict):
            merged = value if name == "model" and "variant" in changes else config[name] | value
            config[name] = {k: v for k, v in merged.items() if v is not None}
        else:
            config[name] = value
    return {name: value for name, value in config.items() if value is not None}


class Runs:
    """training.train on the pictures with the configuration toy(**changes); a run writes to a folder in `folder`."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self.images = folder, images

    def start(self, out: str, *options: str, config: Config | None = None, **changes: Any) -> int:
        """A run's exit code. config: instead of toy(**changes)."""
        path = self.folder / f"{out}.toml"
        path.write_text(tomli_w.dumps(config or toy(**changes)))
        folders = ["--data", str(self.images), "--val", str(self.images), "--out", str(self.folder / out)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(data, "VALIDATION_CROP", 32)
            return train.main([str(path), *folders, "--device", "cpu", "--threads", "1", *options])

    def __call__(self, out: str, *options: str, **changes: Any) -> Path:
        """The folder of a run that ends well."""
        assert self.start(out, *options, **changes) == 0
        return self.folder / out

    def stages(self, out: str, **changes: Any) -> Path:
        """The folder of a run of both stages."""
        self(out, **changes)
        return self(out, "--stage", "qat", **changes)

    def killed(self, out: str, *options: str, **changes: Any) -> Path:
        """The folder of a run that is killed right after it has saved its state twice."""
        save, saves = train.save_state, []

        def save_twice(*args: Any) -> None:
            save(*args)
            saves.append(1)
            if len(saves) == 2:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "save_state", save_twice)
            assert self.start(out, *options, **changes) == 130
        return self.folder / out

    def refused(self, out: str, *options: str, **changes: Any) -> str:
        """What a run says that ends with exit code 1."""
        with contextlib.redirect_stderr(io.StringIO()) as said:
            assert self.start(out, *options, **changes) == 1
        return said.getvalue()


def trained(out: Path, kind: str = "notfused") -> State:
    """The result of a stage in a run's folder."""
    return arch.read_checkpoint(out / f"{kind}.pth")


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three smooth pictures of 90x80 pixels, to be left as it is."""
    folder = tmp_path_factory.mktemp("images") / "Set1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = rng.integers(0, 256, (16, 18, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((90, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def run(tmp_path: Path, images: Path) -> Runs:
    return Runs(tmp_path, images)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """The folder of a run of toy(), both stages of it, to be left as it is."""
    return Runs(tmp_path_factory.mktemp("finished"), images).stages("run")


@pytest.fixture
def net(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run in tmp_path / "net", to be gone on with."""
    return Path(shutil.copytree(finished, tmp_path / "net"))


@pytest.fixture
def float_net(net: Path) -> Path:
    """The same before its qat stage."""
    shutil.rmtree(net / "state_qat")
    for name in ("qat.pth", "curve_qat.csv"):
        (net / name).unlink()
    return net
