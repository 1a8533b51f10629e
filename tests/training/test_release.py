"""training.release: a finished run becomes a preset; an unfinished one is refused before anything is written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import arch
import presets
from export import runtimes
from training import release

RELEASED = presets.DIR / "tiny_2x"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with the released weights of tiny_2x."""
    folder = tmp_path / "run"
    folder.mkdir()
    for kind in ("notfused", "qat"):
        weights = arch.read_checkpoint(presets.path("tiny_2x", kind))
        arch.write_checkpoint(weights, folder / f"{kind}.pth")
    started = hashlib.sha256((folder / "notfused.pth").read_bytes()).hexdigest()
    for stage, steps, origin in (("float", 300, "abc"), ("qat", 20, started)):
        text = f"step,loss,psnr_y,seconds_per_step\n100,0.02,34.0,0.1\n{steps},0.01,35.5,0.1\n"
        (folder / f"curve_{stage}.csv").write_text(text)
        (folder / f"state_{stage}").mkdir()
        config = {"variant": "aether_tiny", stage: {"steps": steps, "lr": 1e-3}}
        facts = {"step": steps, "stage": stage, "origin": origin, "config": config, "files": []}
        (folder / f"state_{stage}" / "state.json").write_text(json.dumps(facts))
    return folder


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


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of one small benchmark picture."""
    folder = tmp_path / "Set1"
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(folder / "1.png")
    return folder


def test_a_release_that_is_worse_is_refused(
    run: Path, folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = ("--images", str(pictures))
    assert release_run(run, monkeypatch, *measured) == 0
    path = folder / "mine" / "preset.json"
    preset = json.loads(path.read_text())
    assert set(preset["measured"]) == {"fp32", "fp16", "int8"}
    assert 20 < preset["measured"]["int8"]["Set1"]["psnr"] < 60
    preset["measured"]["int8"]["Set1"]["psnr"] += 0.03
    path.write_text(json.dumps(preset))
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    capsys.readouterr()
    assert release_run(run, monkeypatch, *measured) == 1
    assert "int8 Set1" in (said := capsys.readouterr().err)
    assert "fp32 Set1" not in said
    assert release_run(run, monkeypatch) == 1  # nothing to compare by
    assert "Set1" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert [p.name for p in folder.iterdir()] == ["mine"]  # nothing half made is left


def test_a_finished_run_becomes_a_preset(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert release_run(run, monkeypatch) == 0
    preset = presets.load("mine")
    assert set(preset["files"]) == {"notfused", "fused", "fp32", "fp16", "int8", "qat"}
    for entry in preset["files"].values():
        assert presets.describe(folder / "mine" / entry["file"]) == entry
    reached = {"steps": 300, "validation_psnr_y": 35.5, "origin": "abc", "config": {"steps": 300, "lr": 1e-3}}
    assert preset["training"]["float"] == reached
    assert preset["training"]["qat"]["origin"] == preset["files"]["notfused"]["sha256"]
    assert all(e["file"].startswith("aether_mine_") for e in preset["files"].values())
    for kind in ("notfused", "qat"):
        released = folder / "mine" / preset["files"][kind]["file"]
        assert released.read_bytes() == (RELEASED / released.name.replace("mine", "tiny_2x")).read_bytes()
    assert preset["measured"] == {}


def test_what_was_measured_stays_with_files_that_did_not_change(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release_run(run, monkeypatch) == 0
    path = folder / "mine" / "preset.json"
    preset = json.loads(path.read_text())
    preset["measured"] = {"fp32": {"Set5": {"psnr": 1.0}}, "int8": {"Set5": {"psnr": 2.0}}}
    preset["files"]["int8"]["sha256"] = "that of another file"
    path.write_text(json.dumps(preset))
    assert release_run(run, monkeypatch, "--allow-worse") == 0
    assert presets.load("mine")["measured"] == {"fp32": {"Set5": {"psnr": 1.0}}}


def test_ranges_of_another_network_are_refused(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = arch.read_checkpoint(run / "notfused.pth")
    arch.write_checkpoint({k: v * 1.01 for k, v in weights.items()}, run / "notfused.pth")
    assert release_run(run, monkeypatch) == 1
    assert "the qat stage did not begin with this notfused.pth" in capsys.readouterr().err
    assert not folder.exists()


def test_a_stage_stopped_early_is_refused(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "state_qat" / "state.json"
    path.write_text(path.read_text().replace('"step": 20', '"step": 10'))
    assert release_run(run, monkeypatch) == 1
    assert "the state is of step 10, the curve ends at 20" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("missing", ["curve_float.csv", "curve_qat.csv", "notfused.pth", "qat.pth", "state_qat"])
def test_an_unfinished_run_is_refused(
    missing: str, run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / missing).rename(run / "gone")
    assert release_run(run, monkeypatch) == 1
    assert missing in capsys.readouterr().err
    assert not folder.exists() or not any(folder.rglob("*.*"))
