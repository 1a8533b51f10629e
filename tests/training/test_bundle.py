"""What one training needs, in pieces, on a machine with torch, numpy and Pillow alone."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import arch
from arch.checkpoint import pickled
from training import bundle
from training.data import VALIDATION_CROP

from .conftest import Capture, toy

Written = Callable[..., Path]


def needed(name: str) -> set[str]:
    """A distribution with all that it requires, extras left out."""
    required = [Requirement(r) for r in metadata.requires(name) or []]
    names = [r.name for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
    return {canonicalize_name(name), *(inner for n in names for inner in needed(n))}


def blocked_packages() -> list[str]:
    """The import names of every installed package that torch, numpy and Pillow do not need, but our own."""
    allowed = {"aethernet", *needed("torch"), *needed("numpy"), *needed("pillow")}
    packages = metadata.packages_distributions().items()
    return sorted(package for package, names in packages if not allowed & set(map(canonicalize_name, names)))


def pack(*words: object) -> int:
    return bundle.main([str(word) for word in words])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures as large as validation crops: noise, smooth, and one colour."""
    folder, size = tmp_path / "photos", (VALIDATION_CROP, VALIDATION_CROP)
    folder.mkdir()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    noise.save(folder / "noise.png")
    noise.crop((0, 0, 16, 16)).resize(size, Image.Resampling.BICUBIC).save(folder / "smooth.png")
    Image.new("RGB", size, (9, 8, 7)).save(folder / "colour.png")
    return folder


@pytest.fixture
def init(tmp_path: Path) -> Path:
    """A checkpoint of the toy's network."""
    arch.write_checkpoint(arch.aether_tiny(2, embed_dim=8, depth=3).state_dict(), tmp_path / "first.safetensors")
    return tmp_path / "first.safetensors"


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """written(**changes) -> the file of a configuration."""
    path = tmp_path / "toy.toml"
    return lambda **changes: (path.write_text(tomli_w.dumps(toy(**changes))), path)[1]


def test_a_bundle_trains_in_an_empty_folder(photos: Path, init: Path, written: Written, tmp_path: Path) -> None:
    """Both stages, where Python finds no other package than torch, numpy and Pillow, and what those need."""
    blocked = blocked_packages()
    assert {"safetensors", "pytorch_optimizer", "onnx", "av", "spandrel"} <= set(blocked)
    stage, out = {"optimizer": "muon", "steps": 2}, tmp_path / "bundle"
    given = (written(float=stage, qat=stage), "--data", photos, "--val", photos, "--out", out, "--init", init)
    assert pack(*given, "--max-mib", 2, "--piece-mib", 0.75) == 0
    pieces = sorted(out.glob("bundle.*.tar"))
    assert len(pieces) >= 2
    assert max(p.stat().st_size for p in pieces) <= 0.75 * 2**20
    there = tmp_path / "there"
    shutil.move(out, there)
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(f"import sys; sys.modules.update(dict.fromkeys({blocked}))")
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": f".:{tmp_path / 'block'}"}
    done = subprocess.run([there / "run.sh", "all", "all"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = sorted(there.glob("results.tar.*"))
    assert results
    assert max(p.stat().st_size for p in results) <= 15 * 2**20
    (tmp_path / "results.tar").write_bytes(b"".join(p.read_bytes() for p in results))
    with tarfile.open(tmp_path / "results.tar") as tar:
        tar.extractall(tmp_path / "back", filter="data")
    assert arch.split_ranges(arch.read_checkpoint(tmp_path / "back" / "run" / "qat.pth"))[1]
    assert arch.load(tmp_path / "back" / "run" / "notfused.pth").scale == 2


def test_the_most_detailed_images_come_first(photos: Path, init: Path, written: Written, tmp_path: Path) -> None:
    """Beside the code, and the configuration with the checkpoint that it names, which travels as .pth."""
    code = sum(bundle.tarred(data) for _, data in bundle.code()) / 2**20

    def chosen(room: float) -> set[str]:
        out, size = tmp_path / f"room {room}", code + room
        given = (written(float={"init": str(init)}), "--data", photos, "--out", out, "--quality", 80)
        assert pack(*given, "--max-mib", size, "--piece-mib", size) == 0
        for piece in out.glob("*.tar"):
            with tarfile.open(piece) as tar:
                tar.extractall(out, filter="data")
        assert (out / "training" / "train.py").exists() and (out / "arch" / "__init__.py").exists()
        assert tomllib.loads((out / "config.toml").read_text())["float"]["init"] == "init.pth"
        assert arch.load(out / "init.pth").config == arch.load(init).config
        return {path.name for path in (out / "images").iterdir()}

    assert chosen(0.5) == {"noise.jpg", "smooth.jpg", "colour.png"}
    noise = len(bundle.as_file(Image.open(photos / "noise.png"), "JPEG", quality=80, subsampling=0))
    first = len(pickled(arch.read_checkpoint(init)))
    assert chosen((noise + first + 6144 + 3 * tarfile.RECORDSIZE) / 2**20) == {"noise.jpg"}


def test_no_room_and_a_full_folder_are_said(photos: Path, written: Written, tmp_path: Path, capsys: Capture) -> None:
    given = (written(), "--data", photos, "--out")
    for most, piece in ((0.05, 0.05), (5, 50)):
        assert pack(*given, tmp_path / "out", "--max-mib", most, "--piece-mib", piece) == 1
        assert f"--max-mib {most}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert pack(*given, photos) == 1
    assert "not empty" in capsys.readouterr().err
