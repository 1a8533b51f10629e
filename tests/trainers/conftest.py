"""Runs of the trainers on tiny real data, each made once: crops of the bundled images, a few steps on the CPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.metrics import imresize, to_uint8
from export.pictures import BUNDLED
from training.prepare_qat import prepare

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
RunPython = Callable[..., str]

# What makes the examples run for seconds on a CPU; everything else in them stays.
NEOSR_SHORT: dict[str, Any] = {
    "manual_seed": 1,
    "num_gpu": 1,
    "datasets.train.num_worker_per_gpu": 1,
    "datasets.train.pin_memory": False,
    "datasets.train.patch_size": 16,
    "datasets.train.batch_size": 2,
    "datasets.val.pin_memory": False,
    "val.val_freq": 3,
    "logger.total_iter": 6,
    "logger.save_checkpoint_freq": 3,
    "logger.print_freq": 1,
    "logger.use_tb_logger": False,
}
TRAINNER_SHORT: dict[str, Any] = {
    "manual_seed": 1,
    "num_gpu": 0,
    "datasets.train.num_worker_per_gpu": 1,
    "datasets.train.pin_memory": False,
    "datasets.train.lq_size": 16,
    "datasets.train.batch_size_per_gpu": 2,
    "val.val_freq": 3,
    "train.total_iter": 6,
    "train.ema_decay": 0.01,  # 0.999 would not get anywhere within six steps
    "logger.save_checkpoint_freq": 3,
    "logger.print_freq": 1,
    "logger.use_tb_logger": False,
}
ANNEAL = 4  # batches, in place of the examples' 200,000


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished training of aether_small in one trainer."""

    root: Path  # the trainer's folder, as it is called
    experiment: Path
    checkpoint: Path
    output: str


def module(name: str) -> Any:
    """A file beside this one as a module."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def shorten() -> Callable[..., Path]:
    """shorten(example, target, changes) -> target: an example configuration with its steps cut down."""
    functions = module("shorten")

    def write(example: str, target: Path, changes: dict[str, Any] | None = None) -> Path:
        source = ROOT / "training" / example
        assert source.is_file()
        if source.suffix == ".toml":
            return functions.shorten_toml(
                source, target, (NEOSR_SHORT if "test" not in example else {}) | (changes or {})
            )
        return functions.shorten_yaml(
            source, target, (TRAINNER_SHORT if "test" not in example else {}) | (changes or {})
        )

    return write


@pytest.fixture(scope="session")
def run() -> RunPython:
    """run(*arguments, cwd=..., expect=0) -> output of Python with this tree's packages, its exit code asserted."""

    def call(*command: str | Path, cwd: Path, expect: int = 0, path: tuple[Path, ...] = ()) -> str:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *path))),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
        )
        output = done.stdout + done.stderr
        assert done.returncode == expect, output[-6000:]
        return output

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders train/hr, train/lr (4 pairs, HR 96x96) and val/hr, val/lr (2 pairs, HR 64x64) for 2x."""
    folder = tmp_path_factory.mktemp("datasets")
    images = [p for p in sorted(BUNDLED.glob("*.webp")) if p.name.startswith("photo_")]
    for part, paths, side in (("train", images[:4], 96), ("val", images[4:6], 64)):
        for kind in ("hr", "lr"):
            (folder / part / kind).mkdir(parents=True)
        for path in paths:
            with Image.open(path) as image:
                hr = np.array(image.convert("RGB"))[100 : 100 + side, 100 : 100 + side]
            lr = to_uint8(imresize(hr.astype(np.float64), Fraction(1, 2)))
            Image.fromarray(hr).save(folder / part / "hr" / f"{path.stem}.png")
            Image.fromarray(lr).save(folder / part / "lr" / f"{path.stem}.png")
    return folder


def checkout(variable: str, package: str, target: Path, data: Path) -> Path:
    """A folder that looks like a trainer's checkout and takes its output: scripts copied, packages linked."""
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"set {variable} to a checkout of {package} to run this test")
    source = Path(given).resolve()
    assert (source / package / "archs").is_dir(), f"{variable}={given} is no checkout of {package}"
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, target)
        elif path.name not in ("experiments", "results", "tb_logger", "datasets", ".git"):
            (target / path.name).symlink_to(path)
    (target / "datasets").symlink_to(data)
    return target


@pytest.fixture(scope="session")
def neosr_root(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A writable neosr; skipped aloud without NEOSR_SRC."""
    return checkout("NEOSR_SRC", "neosr", tmp_path_factory.mktemp("neosr"), data)


@pytest.fixture(scope="session")
def trainner_root(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A writable traiNNer-redux; skipped aloud without TRAINNER_SRC, or without the packages it needs."""
    root = checkout("TRAINNER_SRC", "traiNNer", tmp_path_factory.mktemp("trainner"), data)
    for name in ("msgspec", "pytorch_optimizer", "pyvips", "timm", "rich", "yaml", "ema_pytorch", "antialiased_cnns"):
        pytest.importorskip(name, reason=f"traiNNer-redux needs the package {name}")
    return root


@pytest.fixture(scope="session")
def neosr_run(neosr_root: Path, run: RunPython, shorten: Callable[..., Path]) -> Run:
    """small_2x_l1.toml through current neosr's train.py: six steps, three validations."""
    config = shorten(
        "neosr/configs/small_2x_l1.toml",
        neosr_root / "small_l1.toml",
        {"network_g.anneal": ANNEAL, "train.scheduler.T_max": 6},
    )
    output = run(HERE / "run_trainer.py", "neosr", "--root", neosr_root, "-opt", config, cwd=neosr_root)
    experiment = neosr_root / "experiments" / "aether_small_2x_l1"
    return Run(neosr_root, experiment, experiment / "models" / "net_g_6.pth", output)


@pytest.fixture(scope="session")
def neosr_qat_run(neosr_run: Run, run: RunPython, shorten: Callable[..., Path], data: Path) -> Run:
    """small_2x_qat.toml from the checkpoint of `neosr_run`: three steps, and three more after resuming."""
    root = neosr_run.root
    prepare(neosr_run.checkpoint, root / "aether_small_2x_start.pth", data / "val" / "hr")
    start = (HERE / "run_trainer.py", "neosr", "--root", root, "-opt", root / "qat.toml")
    for steps, more in ((3, ()), (6, ("--auto_resume",))):
        changes = {"train.scheduler.T_max": 6, "logger.total_iter": steps}
        shorten("neosr/configs/small_2x_qat.toml", root / "qat.toml", changes)
        output = run(*start, *more, cwd=root)
    experiment = root / "experiments" / "aether_small_2x_qat"
    return Run(root, experiment, experiment / "models" / "net_g_6.pth", output)


@pytest.fixture(scope="session")
def neosr_wheel_run(
    tmp_path_factory: pytest.TempPathFactory, data: Path, run: RunPython, shorten: Callable[..., Path]
) -> Run:
    """The same configuration through the library in neosr's registry wheel."""
    if importlib.util.find_spec("neosr") is None:
        pytest.skip("install neosr's wheel to run this test: pip install --no-deps neosr==0.1.0")
    root = tmp_path_factory.mktemp("neosr_wheel")
    (root / "datasets").symlink_to(data)
    config = shorten(
        "neosr/configs/small_2x_l1.toml",
        root / "small_l1.toml",
        {"network_g.anneal": ANNEAL, "train.scheduler.T_max": 6, "use_amp": False, "bfloat16": False},
    )
    output = run(HERE / "wheel_session.py", root, "-opt", config, cwd=root)
    experiment = root / "experiments" / "aether_small_2x_l1"
    return Run(root, experiment, experiment / "models" / "net_g_6.pth", output)


@pytest.fixture(scope="session")
def trainner_run(trainner_root: Path, run: RunPython, shorten: Callable[..., Path]) -> Run:
    """small_2x_l1.yml through traiNNer-redux's train.py: six steps, two validations."""
    config = shorten(
        "trainner_redux/configs/small_2x_l1.yml",
        trainner_root / "small_l1.yml",
        {"network_g.anneal": ANNEAL, "train.scheduler.T_max": 6},
    )
    output = run(HERE / "run_trainer.py", "trainner_redux", "--root", trainner_root, "-opt", config, cwd=trainner_root)
    experiment = trainner_root / "experiments" / "2x_aether_small_l1"
    return Run(trainner_root, experiment, experiment / "models" / "net_g_ema_6.safetensors", output)


@pytest.fixture(scope="session")
def trainner_qat_run(trainner_run: Run, run: RunPython, shorten: Callable[..., Path], data: Path) -> Run:
    """small_2x_qat.yml from the checkpoint of `trainner_run`: three steps, and three more after resuming."""
    root = trainner_run.root
    prepare(trainner_run.checkpoint, root / "aether_small_2x_start.safetensors", data / "val" / "hr")
    start = (HERE / "run_trainer.py", "trainner_redux", "--root", root, "-opt", root / "qat.yml")
    for steps, more in ((3, ()), (6, ("--auto_resume",))):
        shorten("trainner_redux/configs/small_2x_qat.yml", root / "qat.yml", {"train.total_iter": steps})
        output = run(*start, *more, cwd=root)
    experiment = root / "experiments" / "2x_aether_small_qat"
    return Run(root, experiment, experiment / "models" / "net_g_ema_6.safetensors", output)
