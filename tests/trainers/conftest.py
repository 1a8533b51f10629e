"""neosr and traiNNer-redux on tiny real data: crops of the bundled images, a few steps on the CPU."""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from PIL import Image
from torch import nn

import arch
from export.metrics import imresize, to_uint8
from export.pictures import BUNDLED
from training.prepare_qat import prepare

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# What makes the examples run for seconds on a CPU; everything else in them stays.
SHORT: dict[str, Any] = {
    "manual_seed": 1,
    "datasets.train.num_worker_per_gpu": 1,
    "datasets.train.pin_memory": False,
    "val.val_freq": 3,
    "network_g.anneal": 4,  # batches, in place of 200,000
    "train.scheduler.T_max": 6,
    "logger.save_checkpoint_freq": 3,
    "logger.print_freq": 1,
    "logger.use_tb_logger": False,
}
QAT: dict[str, Any] = {"network_g.anneal": None}  # which is over then
AT_1X: dict[str, Any] = {  # not the networks' default scale, so that it must come from the configuration
    "scale": 1,
    "datasets.train.dataroot_lq": "datasets/train/hr",
    "datasets.val.dataroot_lq": "datasets/val/hr",
    "network_g": {"type": "aether_tiny"},
    "network_g.anneal": None,
    "logger.save_checkpoint_freq": 1,
}


@dataclasses.dataclass(frozen=True)
class Trainer:
    """One of the two: what its checkout is like, and where it puts what it trains."""

    name: str  # of our launcher, in training
    package: str
    variable: str  # that names a checkout
    suffix: str  # of its configurations
    steps: str  # their entry
    weights: str  # of a step, in an experiment
    average: str  # the same, moving averages if it keeps both
    results: str  # of its test script
    needs: tuple[str, ...]  # packages
    short: dict[str, Any]
    test: dict[str, Any]

    def configure(self, target: Path, example: str, changes: dict[str, Any]) -> Path:
        """Write an example with entries changed; their names are paths, and None removes one."""
        source = ROOT / "training" / self.name / "configs" / f"{example}{self.suffix}"
        if self.suffix == ".toml":
            config = tomllib.loads(source.read_text())
        else:
            import yaml  # pyright: ignore[reportMissingModuleSource]

            config = yaml.safe_load(source.read_text())
        common = self.test if example.endswith("test") else SHORT | self.short
        for path, value in (common | changes).items():
            *sections, key = path.split(".")
            place = config
            for section in sections:
                place = place[section]
            if value is None:
                place.pop(key, None)
            else:
                place[key] = value
        target.write_text(tomli_w.dumps(config) if self.suffix == ".toml" else yaml.safe_dump(config, sort_keys=False))
        return target


NEOSR = Trainer(
    name="neosr",
    package="neosr",
    variable="NEOSR_SRC",
    suffix=".toml",
    steps="logger.total_iter",
    weights="models/net_g_{}.pth",
    average="models/net_g_{}.pth",
    results="experiments/results/{}/images",
    needs=(),
    short={
        "num_gpu": 1,
        "datasets.train.patch_size": 16,
        "datasets.train.batch_size": 2,
        "datasets.val.pin_memory": False,
        "logger.total_iter": 6,
    },
    test={"num_gpu": 1, "datasets.test_1.pin_memory": False},
)
REDUX = Trainer(
    name="trainner_redux",
    package="traiNNer",
    variable="TRAINNER_SRC",
    suffix=".yml",
    steps="train.total_iter",
    weights="models/resume_models/net_g_{}.safetensors",
    average="models/net_g_ema_{}.safetensors",
    results="results/{}/visualization",
    needs=("msgspec", "pytorch_optimizer", "pyvips", "timm", "rich", "yaml", "ema_pytorch", "antialiased_cnns"),
    short={
        "num_gpu": 0,
        "datasets.train.lq_size": 16,
        "datasets.train.batch_size_per_gpu": 2,
        "train.total_iter": 6,
        "train.ema_decay": 0.01,  # 0.999 would not get anywhere within six steps
    },
    test={"num_gpu": 0},
)


def run_python(*command: str | Path, cwd: Path, path: tuple[Path, ...] = ()) -> str:
    """The output of Python with this tree's packages, which must end well."""
    paths = os.pathsep.join(map(str, (ROOT, *path)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    return output


def outer(trained: Path | nn.Module) -> float:
    """The factor on the outer taps, of a checkpoint or of a network."""
    state = arch.read_checkpoint(trained) if isinstance(trained, Path) else trained.state_dict()
    return max(float(v[1]) for k, v in state.items() if k.endswith(".window"))


class Checkout:
    """What looks like a trainer's checkout and takes its output: scripts copied, packages linked."""

    def __init__(self, trainer: Trainer, root: Path, data: Path) -> None:
        self.trainer, self.root = trainer, root
        self.source = Path(os.environ[trainer.variable]).resolve()
        assert (self.source / trainer.package / "archs").is_dir(), f"{self.source} is no checkout of {trainer.package}"
        for path in self.source.iterdir():
            if path.is_file():
                shutil.copy(path, root)
            elif path.name not in ("experiments", "results", "tb_logger", "datasets", ".git"):
                (root / path.name).symlink_to(path)
        (root / "datasets").symlink_to(data)

    def run(self, name: str, example: str, changes: dict[str, Any], *options: str) -> str:
        """The output of an experiment of an example, by our launcher."""
        config = self.trainer.configure(self.root / f"{name}{self.trainer.suffix}", example, {"name": name} | changes)
        script = "test" if example.endswith("test") else "train"
        words = (self.trainer.name, script, "--root", self.root, "-opt", config, *options)
        return run_python(HERE / "run_trainer.py", *words, cwd=self.root)

    def weights(self, name: str, step: int) -> Path:
        """What an experiment trains, after a step."""
        return self.root / "experiments" / name / self.trainer.weights.format(step)

    def average(self, name: str, step: int | str) -> Path:
        """What an experiment's users take."""
        return self.root / "experiments" / name / self.trainer.average.format(step)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders train/hr, train/lr (4 pairs, HR 96x96) and val/hr, val/lr (2 pairs, HR 64x64) for 2x."""
    folder = tmp_path_factory.mktemp("datasets")
    images = sorted(BUNDLED.glob("photo_*.webp"))
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


@pytest.fixture(scope="session", params=[NEOSR, REDUX], ids=lambda trainer: trainer.name)
def checkout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: Path) -> Checkout:
    """Skipped aloud where no variable names one, or without the packages that it needs."""
    trainer: Trainer = request.param
    if not os.environ.get(trainer.variable):
        pytest.skip(f"set {trainer.variable} to a checkout of {trainer.package} to run this test")
    for name in trainer.needs:
        pytest.importorskip(name, reason=f"{trainer.package} needs the package {name}")
    return Checkout(trainer, tmp_path_factory.mktemp(trainer.name), data)


@pytest.fixture(scope="session")
def float_output(checkout: Checkout) -> str:
    """Of the experiment "float", small_2x_l1 through the trainer's train.py: six steps, validations."""
    return checkout.run("float", "small_2x_l1", {})


@pytest.fixture(scope="session")
def qat_output(checkout: Checkout, float_output: str, data: Path) -> str:
    """Of the experiment "qat", small_2x_qat from the checkpoint of "float": three steps, and three after resuming."""
    start = f"aether_small_2x_start{checkout.average('float', 6).suffix}"
    prepare(checkout.average("float", 6), checkout.root / start, data / "val" / "hr")
    checkout.run("qat", "small_2x_qat", QAT | {checkout.trainer.steps: 3})
    return checkout.run("qat", "small_2x_qat", QAT, "--auto_resume")


@pytest.fixture(scope="session")
def wheel(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the library in neosr's registry wheel has trained small_2x_l1, and its output."""
    if importlib.util.find_spec("neosr") is None:
        pytest.skip("install neosr's wheel to run this test: pip install --no-deps neosr==0.1.0")
    return wheel_session(tmp_path_factory.mktemp("wheel"), data, {})


def wheel_session(root: Path, data: Path, changes: dict[str, Any]) -> tuple[Path, str]:
    """The experiment's folder and the output of wheel_session.py with small_2x_l1 in an empty folder."""
    (root / "datasets").symlink_to(data)
    float32 = {"name": "float", "use_amp": False, "bfloat16": False}
    config = NEOSR.configure(root / "float.toml", "small_2x_l1", float32 | changes)
    return root / "experiments" / "float", run_python(HERE / "wheel_session.py", root, "-opt", config, cwd=root)
