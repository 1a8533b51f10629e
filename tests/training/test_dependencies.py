"""The training script needs torch, numpy and Pillow alone, so that it runs on any GPU machine as it is."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import tomli_w
from packaging.requirements import Requirement
from PIL import Image

import arch
from training.data import VALIDATION_CROP

from .conftest import toy

ROOT = Path(__file__).resolve().parents[2]
OWN = "aethernet"

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({blocked}))  # importing one of these now raises ImportError
from training.train import main
sys.exit(main())
"""


def needed(*names: str) -> set[str]:
    """Distributions with all that they require, extras left out."""
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            requirements = [Requirement(r) for r in metadata.requires(name) or []]
            queue += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def blocked_packages() -> list[str]:
    """The import names of every installed package that torch, numpy and Pillow do not need, but our own."""
    allowed = {OWN, *needed("torch", "numpy", "pillow")}
    packages = {
        package: {name.lower().replace("_", "-") for name in names}
        for package, names in metadata.packages_distributions().items()
    }
    return sorted(package for package, names in packages.items() if not names & allowed)


def test_both_stages_run_with_torch_numpy_and_pillow_alone(tmp_path: Path, images: Path) -> None:
    blocked = blocked_packages()
    assert {"safetensors", "pytorch_optimizer", "onnx", "av", "spandrel"} <= set(blocked)
    config = toy()
    for stage in ("float", "qat"):
        config[stage]["optimizer"] = "muon"
    for path in images.iterdir():  # as large as validation crops are
        with Image.open(path) as image:
            image.resize((VALIDATION_CROP, VALIDATION_CROP)).save(path)
    (tmp_path / "toy.toml").write_text(tomli_w.dumps(config))
    command = [sys.executable, "-c", WITHOUT.format(blocked=blocked), str(tmp_path / "toy.toml")]
    command += ["--data", str(images), "--val", str(images), "--out", str(tmp_path / "net"), "--device", "cpu"]
    for stage in ("float", "qat"):
        done = subprocess.run([*command, "--stage", stage], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert arch.split_ranges(arch.read_checkpoint(tmp_path / "net" / "qat.pth"))[1]
