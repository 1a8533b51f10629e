"""training.release: a finished run becomes a preset; an unfinished one is refused before anything is written."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import tomli_w
import torch

import arch
import presets
from export import runtimes
from training import data, reexport, release, train

from .conftest import smooth_pictures, toy


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of a toy, both stages of it, and a folder of benchmark pictures."""
    folder = tmp_path_factory.mktemp("finished")
    images = smooth_pictures(folder / "Set1")
    (folder / "toy.toml").write_text(tomli_w.dumps(toy()))
    words = ["train", str(folder / "toy.toml"), "--data", str(images), "--val", str(images), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "VALIDATION_CROP", 32)
        for stage in ("float", "qat"):
            patch.setattr("sys.argv", [*words, "--out", str(folder / "run"), "--stage", stage])
            assert train.main() == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """That run, to be changed."""
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where presets are written to."""
    monkeypatch.setattr(presets, "DIR", tmp_path / "presets")
    monkeypatch.setattr(runtimes, "milliseconds", lambda *_: 1.0)
    return tmp_path / "presets"


def release_run(run: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    words = ["release", str(run), "--name", "mine", "--status", "interim", "--data", "mine", *options]
    monkeypatch.setattr("sys.argv", words)
    return release.main()


@pytest.fixture(scope="module")
def preset(finished: Path) -> Path:
    """The folder of presets after the toy was released, measured on the pictures, as "mine"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "DIR", finished / "presets")
        patch.setattr(runtimes, "milliseconds", lambda *_: 1.0)
        assert release_run(finished / "run", patch, "--images", str(finished / "Set1")) == 0
    return finished / "presets"


@pytest.fixture
def released(preset: Path, folder: Path) -> Path:
    """A copy of that, to be changed: where the next release goes."""
    return Path(shutil.copytree(preset, folder))


def test_a_release_that_is_worse_is_refused(
    run: Path, released: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = released / "mine" / "preset.json"
    preset = json.loads(path.read_text())
    preset["measured"]["int8"]["Set1"]["psnr"] += 0.03
    path.write_text(json.dumps(preset))
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    assert release_run(run, monkeypatch, "--images", str(finished / "Set1")) == 1
    assert "int8 Set1" in (said := capsys.readouterr().err)
    assert "fp32 Set1" not in said
    assert release_run(run, monkeypatch) == 1  # nothing to compare by
    assert "Set1" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert [p.name for p in released.iterdir()] == ["mine"]  # nothing half made is left


def test_a_finished_run_becomes_a_preset(run: Path, released: Path) -> None:
    preset = presets.load("mine")
    assert set(preset["files"]) == {"notfused", "fused", "fp32", "fp16", "int8", "qat"}
    for entry in preset["files"].values():
        content = (released / "mine" / entry["file"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["bytes"])
        assert entry["file"].startswith("aether_mine_")
    last = (run / "curve_float.csv").read_text().split()[-1].split(",")
    assert preset["training"]["float"]["steps"] == int(last[0]) == 6
    assert preset["training"]["float"]["validation_psnr_y"] == float(last[2])
    assert preset["training"]["float"]["config"]["lr"] == 1e-3
    assert preset["training"]["qat"]["origin"] == preset["files"]["notfused"]["sha256"]
    for kind in ("notfused", "qat"):
        ours, theirs = (arch.read_checkpoint(p) for p in (presets.path("mine", kind), run / f"{kind}.pth"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert set(preset["measured"]) == {"fp32", "fp16", "int8"}
    assert 10 < preset["measured"]["int8"]["Set1"]["psnr"] < 60


def test_what_was_measured_stays_with_files_that_did_not_change(
    run: Path, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = released / "mine" / "preset.json"
    preset = json.loads(path.read_text())
    preset["measured"] = {"fp32": {"Set5": {"psnr": 1.0}}, "int8": {"Set5": {"psnr": 2.0}}}
    preset["files"]["int8"]["sha256"] = "that of another file"
    path.write_text(json.dumps(preset))
    assert release_run(run, monkeypatch, "--allow-worse") == 0
    assert presets.load("mine")["measured"] == {"fp32": {"Set5": {"psnr": 1.0}}}


def another_network(run: Path) -> None:
    weights = arch.read_checkpoint(run / "notfused.pth")
    arch.write_checkpoint({k: v * 1.01 for k, v in weights.items()}, run / "notfused.pth")


def stopped_early(run: Path) -> None:
    path = run / "state_qat" / "state.json"
    path.write_text(path.read_text().replace('"step": 6', '"step": 4'))


def without(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).rename(run / "gone")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (another_network, "the qat stage did not begin with this notfused.pth"),
        (stopped_early, "the state is of step 4, the curve ends at 6"),
        *((without(n), n) for n in ("curve_float.csv", "curve_qat.csv", "notfused.pth", "qat.pth", "state_qat")),
    ],
)
def test_an_unfinished_run_is_refused(
    spoil: Callable[[Path], object],
    said: str,
    run: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(run)
    assert release_run(run, monkeypatch) == 1
    assert said in capsys.readouterr().err
    assert not folder.exists() or not any(folder.rglob("*.*"))


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_release_cut_off_leaves_a_whole_preset(
    crash_at: int, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first renaming, between the two, and before the old one is removed; a file of no release is kept."""
    (released / "mine" / "openmodeldb.json").write_text("{}")
    staged = Path(shutil.copytree(released / "mine", released / ".mine.new"))
    presets.save_in(staged, presets.load("mine") | {"status": "release"})
    steps = 0

    def step(then: Callable[..., Any], *args: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == crash_at:
            raise KeyboardInterrupt
        return then(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", functools.partialmethod(lambda self, then, to: step(then, self, to), Path.rename))
        patch.setattr(shutil, "rmtree", functools.partial(step, shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            release.replace(released / "mine", staged)
    release.recover(released / "mine")
    assert presets.names() == ["mine"]
    assert presets.load("mine")["status"] == ("release" if crash_at == 3 else "interim")
    assert all(presets.read("mine", kind) for kind in presets.load("mine")["files"])
    assert (released / "mine" / "openmodeldb.json").read_text() == "{}"
    assert not (released / ".mine.old").exists()


@pytest.mark.parametrize("change", ["", "an output"])
def test_engines_are_exported_again_where_outputs_stay(released: Path, change: str) -> None:
    folder = released / "mine"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    preset = json.loads(before["preset.json"])
    engine = folder / preset["files"]["fp32"]["file"]
    proto = onnx.load(engine)
    proto.producer_version = "of another exporter"
    if change:
        proto.graph.initializer[0].raw_data = bytes(len(proto.graph.initializer[0].raw_data))
    onnx.save(proto, engine)
    preset["files"]["fp32"] = presets.describe(engine)
    (folder / "preset.json").write_text(json.dumps(preset))
    changed = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert reexport.main(["mine"]) == bool(change)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == (changed if change else before)
