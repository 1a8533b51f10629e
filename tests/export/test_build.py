"""The commands: what they write, what they report, and what bad input leaves behind (nothing)."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import arch
import presets
from export import build, fuse, onnx, runtimes, verify
from export.quantize import calibrate, quant_convs, quantize


@pytest.fixture
def checkpoint(tiny: arch.AetherTiny, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    arch.write_checkpoint(tiny.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "milliseconds", lambda *_: 1.0)


def test_build_writes_all_files_and_a_report_that_is_true(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build.main(["--model", str(checkpoint), "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "aether_tiny_2x_fp16.onnx",
        "aether_tiny_2x_fp32.onnx",
        "aether_tiny_2x_fp32_int8.onnx",
        "aether_tiny_2x_fused.safetensors",
        "aether_tiny_2x_notfused.safetensors",
        "report.json",
    ]
    (report,) = json.loads((out / "report.json").read_text())["models"]
    assert (report["name"], report["variant"], report["receptive_radius"]) == ("tiny_2x", "aether_tiny", 4)
    for name, facts in report["files"].items():
        data = (out / name).read_bytes()
        assert facts["bytes"] == len(data)
        assert facts["sha256"] == hashlib.sha256(data).hexdigest()
    int8 = report["files"]["aether_tiny_2x_fp32_int8.onnx"]
    assert (int8["nodes"]["QuantizeLinear"], int8["nodes"]["DequantizeLinear"]) == (4, 8)
    assert int8["float_convolutions"] == {}
    full = report["files"]["aether_tiny_2x_fp32.onnx"]
    assert full["quality"]["ov"]["psnr_y"] == pytest.approx(report["images"]["psnr_y_float"], abs=1e-3)
    assert 20 < int8["quality"]["ov"]["psnr_to_float"] < 60
    assert (full["quality"]["ov"]["psnr_to_float"] or 200) > 100
    assert isinstance(arch.load(out / "aether_tiny_2x_fused.safetensors"), arch.AetherTiny)


def test_int8_of_a_trained_checkpoint_has_its_ranges_and_the_float_file_its_own_weights(
    checkpoint: Path, tiny: arch.AetherTiny, images: list[Tensor], tmp_path: Path
) -> None:
    model = quantize(arch.fuse(tiny))
    calibrate(model, images)
    with torch.no_grad():
        conv = dict(quant_convs(model))["conv_last"]
        conv.input_quantizer._amax.fill_(2.54)
        assert conv.bias is not None
        conv.bias.add_(0.1)
    qat = tmp_path / "qat.pth"
    arch.write_checkpoint(model.state_dict(), qat)
    out = tmp_path / "out"
    args = ["--model", str(checkpoint), "--qat", str(qat), "--int8", "--fp32", "--out", str(out)]
    assert build.main(args) == 0
    import onnx as onnx_package
    from onnx import numpy_helper

    graphs = {p: onnx_package.load(out / f"aether_tiny_2x_{p}.onnx").graph for p in ("fp32", "fp32_int8")}
    int8, full = ({t.name: numpy_helper.to_array(t) for t in graphs[p].initializer} for p in ("fp32_int8", "fp32"))
    assert int8["conv_last.input_scale"] == pytest.approx(0.02)
    np.testing.assert_allclose(int8["conv_last.bias"], full["conv_last.bias"] + 0.1, atol=1e-6)
    assert not (out / "aether_tiny_2x_fp16.onnx").exists()


def test_calibration_on_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    out = tmp_path / "out"
    args = ["--int8", "--model", str(checkpoint), "--calibration", str(folder), "--out", str(out), "--opset", "21"]
    assert build.main(args) == 0
    assert (
        json.loads((out / "report.json").read_text())["models"][0]["files"]["aether_tiny_2x_fp32_int8.onnx"]["opset"]
        == 21
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_fuse_command(
    checkpoint: Path, tiny: arch.AetherTiny, images: list[Tensor], tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"fused{suffix}"
    assert fuse.main([str(checkpoint), str(target)]) == 0
    model = arch.load(target)
    assert model.config.fused == "full"  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.allclose(model(images[0]), tiny(images[0]), atol=1e-5)


def test_onnx_command(checkpoint: Path, tmp_path: Path, images: list[Tensor]) -> None:
    target = tmp_path / "net.onnx"
    args = [str(checkpoint), str(target), "--fp16", "--opset", "17", "--static", "48x48"]
    assert onnx.main(args) == 0
    out = runtimes.load(target.read_bytes(), "ort")(images[0].numpy())
    assert out.shape == (1, 3, 96, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "missing.safetensors"], "no such file"),
        (["--model", "nosuchpreset"], "no preset"),
        (["--model", "FOREIGN"], "not an AetherNet checkpoint"),
        (["--model", "CHECKPOINT", "--opset", "16"], "17 to 21"),
        (["--model", "CHECKPOINT", "--calibration", "EMPTY"], "no image in this folder"),
        (["--model", "CHECKPOINT", "--calibration", "missing"], "no such folder"),
        (["--model", "CHECKPOINT", "--qat", "CHECKPOINT"], "holds no ranges"),
        (["--model", "CHECKPOINT", "--out", "FOREIGN"], "cannot be made"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    foreign = tmp_path / "foreign.safetensors"
    arch.write_checkpoint({"some.weight": torch.zeros(3)}, foreign)
    (tmp_path / "empty").mkdir()
    names = {"FOREIGN": str(foreign), "CHECKPOINT": str(checkpoint), "EMPTY": str(tmp_path / "empty")}
    arguments = [names.get(a, a) for a in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    before = sorted(p.name for p in tmp_path.rglob("*.*"))
    assert build.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == before


def test_files_of_another_network_are_not_replaced(
    checkpoint: Path, tiny: arch.AetherTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other.safetensors"
    arguments = ["--fp32", "--out", str(out), "--model"]
    assert build.main([*arguments, str(checkpoint)]) == 0
    with torch.no_grad():
        next(tiny.parameters()).mul_(2)
    arch.write_checkpoint(tiny.state_dict(), other)
    before = {p: p.read_bytes() for p in out.iterdir()}
    assert build.main([*arguments, str(other)]) == 1
    assert "of another network; give another --out, or --overwrite" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    assert build.main([*arguments, str(checkpoint)]) == 0
    assert build.main([*arguments, str(other), "--overwrite"]) == 0
    assert (out / "aether_tiny_2x_fp32.onnx").read_bytes() != before[out / "aether_tiny_2x_fp32.onnx"]


def test_presets_have_files_of_their_own(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two presets of one variant, as tiny_2x and tiny_2x_video are."""
    for name in ("one_2x", "two_2x"):
        (tmp_path / "presets" / name).mkdir(parents=True)
        shutil.copy(checkpoint, tmp_path / "presets" / name / "aether_notfused.safetensors")
    monkeypatch.setattr(presets, "DIR", tmp_path / "presets")
    assert build.main(["--fp32", "--out", str(tmp_path / "out")]) == 0
    names = {f"aether_{n}_2x_{k}" for n in ("one", "two") for k in ("fp32.onnx", "fused.safetensors")}
    assert names < {p.name for p in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("command", [fuse, onnx])
def test_an_existing_file_is_not_replaced(
    command: ModuleType, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / ("fused.pth" if command is fuse else "net.onnx")
    target.write_bytes(b"mine")
    assert command.main([str(checkpoint), str(target)]) == 1
    assert "exists; give another name, or --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert command.main([str(checkpoint), str(target), "--overwrite"]) == 0
    assert target.read_bytes() != b"mine"


def test_ranges_of_another_network_are_refused(
    checkpoint: Path, images: list[Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = quantize(arch.fuse(arch.aether_tiny(2, embed_dim=8, depth=6)))
    calibrate(deeper, images)
    arch.write_checkpoint(deeper.state_dict(), tmp_path / "qat.pth")
    arguments = ["--model", str(checkpoint), "--qat", str(tmp_path / "qat.pth"), "--out", str(tmp_path / "out")]
    assert build.main(arguments) == 1
    assert "another network than" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_failed_check_leaves_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "INT8_PSNR", 200.0)
    out = tmp_path / "out"
    assert build.main(["--model", str(checkpoint), "--out", str(out)]) == 1
    assert "at least 200 is needed" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_an_old_file_survives_a_failed_check(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "net.onnx"
    target.write_bytes(b"old")
    monkeypatch.setitem(verify.TOLERANCE, "fp32", -1.0)
    assert onnx.main([str(checkpoint), str(target), "--overwrite"]) == 1
    assert target.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def test_the_quantiser_needs_torch_alone() -> None:
    code = (
        "import sys; import export.quantize, export.metrics; "
        "print([m for m in ('onnx', 'onnxruntime', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
