"""What one training needs, in pieces, on a machine with torch, numpy and Pillow alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from packaging.requirements import Requirement
from PIL import Image

import arch
from training import bundle
from training.data import VALIDATION_CROP

from .conftest import toy

OWN = "aethernet"
BLOCK = "import sys; sys.modules.update(dict.fromkeys({blocked}))"


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


def pack(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bundle", *map(str, words)])
    return bundle.main()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures as large as validation crops: noise, smooth, and one colour."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (VALIDATION_CROP, VALIDATION_CROP, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    smooth = Image.fromarray(noise[:16, :16]).resize((VALIDATION_CROP, VALIDATION_CROP), Image.Resampling.BICUBIC)
    smooth.save(folder / "smooth.png")
    Image.new("RGB", (VALIDATION_CROP, VALIDATION_CROP), (9, 8, 7)).save(folder / "colour.png")
    return folder


def test_a_bundle_trains_in_an_empty_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stages, where Python finds no other package than torch, numpy and Pillow, and what those need."""
    config = toy()
    for stage in ("float", "qat"):
        config[stage]["optimizer"] = "muon"
    blocked = blocked_packages()
    assert {"safetensors", "pytorch_optimizer", "onnx", "av", "spandrel"} <= set(blocked)
    init = tmp_path / "begin.safetensors"
    arch.write_checkpoint(arch.aether_tiny(2, embed_dim=8, depth=3).state_dict(), init)
    config["float"]["init"] = str(init)
    (tmp_path / "toy.toml").write_text(tomli_w.dumps(config))
    out = tmp_path / "bundle"
    given = (tmp_path / "toy.toml", "--data", photos, "--val", photos, "--out", out)
    assert pack(monkeypatch, *given, "--max-mib", 2, "--piece-mib", 0.75) == 0
    pieces = sorted(out.glob("bundle.*.tar"))
    assert len(pieces) >= 2
    assert max(p.stat().st_size for p in pieces) <= 0.75 * 2**20
    there = tmp_path / "there"
    shutil.move(out, there)
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(BLOCK.format(blocked=blocked))
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": f".:{tmp_path / 'block'}"}
    done = subprocess.run(
        [there / "run.sh", "all", "all"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = sorted(there.glob("results.tar.*"))
    assert results
    assert max(p.stat().st_size for p in results) <= 15 * 2**20
    (tmp_path / "results.tar").write_bytes(b"".join(p.read_bytes() for p in results))
    with tarfile.open(tmp_path / "results.tar") as tar:
        tar.extractall(tmp_path / "back", filter="data")
    assert arch.split_ranges(arch.read_checkpoint(tmp_path / "back" / "run" / "qat.pth"))[1]
    assert arch.load(tmp_path / "back" / "run" / "notfused.pth").scale == 2  # pyright: ignore[reportAttributeAccessIssue]


def test_the_most_detailed_images_come_first(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.toml").write_text(tomli_w.dumps(toy()))
    code = sum(bundle.tarred(data) for _, data in bundle.code()) / 2**20

    def chosen(room: float) -> set[str]:
        out = tmp_path / f"room {room}"
        given = (tmp_path / "toy.toml", "--data", photos, "--out", out, "--quality", 80)
        assert pack(monkeypatch, *given, "--max-mib", code + room, "--piece-mib", code + room) == 0
        names: set[str] = set()
        for piece in out.glob("*.tar"):
            with tarfile.open(piece) as tar:
                names |= set(tar.getnames())
        assert {"training/train.py", "arch/__init__.py", "config.toml"} <= names
        return {n for n in names if n.startswith("images/")}

    assert chosen(0.5) == {"images/noise.jpg", "images/smooth.jpg", "images/colour.png"}
    noise = len(bundle.as_file(Image.open(photos / "noise.png"), "JPEG", quality=80, subsampling=0))
    assert chosen((noise + 4096 + 3 * tarfile.RECORDSIZE) / 2**20) == {"images/noise.jpg"}


def test_checkpoints_travel_as_pth(tmp_path: Path) -> None:
    init = tmp_path / "first.safetensors"
    arch.write_checkpoint(arch.aether_tiny(2, embed_dim=8, depth=3).state_dict(), init)
    config = toy()
    for given in (str(init), ""):
        config["float"].pop("init", None)
        if given:
            config["float"]["init"] = given
        (tmp_path / "toy.toml").write_text(tomli_w.dumps(config))
        files = bundle.configuration(tmp_path / "toy.toml", None if given else init)
        assert set(files) == {"config.toml", "init.pth"}
        assert tomllib.loads(files["config.toml"].decode())["float"]["init"] == "init.pth"
        (tmp_path / "there.pth").write_bytes(files["init.pth"])
        assert arch.load(tmp_path / "there.pth").config.embed_dim == 8  # pyright: ignore[reportAttributeAccessIssue]


def test_no_room_and_a_full_folder_are_said(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.toml").write_text(tomli_w.dumps(toy()))
    given = (tmp_path / "toy.toml", "--data", photos, "--out", tmp_path / "out")
    assert pack(monkeypatch, *given, "--max-mib", 0.05, "--piece-mib", 0.05) == 1
    assert pack(monkeypatch, *given, "--max-mib", 5, "--piece-mib", 50) == 1
    assert not (tmp_path / "out").exists()
    assert pack(monkeypatch, *given[:3], "--out", photos) == 1
    assert "not empty" in capsys.readouterr().err
