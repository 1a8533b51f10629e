"""The commands: what they write, what they report, and what bad input leaves behind (nothing)."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import arch
import export
import presets
from arch.checkpoint import weights_sha256
from export import engines, fuse, layers, onnx, pictures, runtimes, source, verify
from export.build import build
from export.build.__main__ import main
from export.errors import ExportError
from export.quantizer import calibrate, quant_convs, quantize


@pytest.fixture
def checkpoint(tiny: arch.AetherTiny, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    arch.write_checkpoint(tiny.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three small pictures in place of the bundled ones, and nothing timed."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in sorted(pictures.BUNDLED.glob("photo_*.webp"))[:3]:
        Image.open(path).crop((0, 0, 96, 96)).save(folder / path.name, lossless=True)
    monkeypatch.setattr(pictures, "BUNDLED", folder)
    monkeypatch.setattr(runtimes, "milliseconds", lambda *_: 1.0)


def test_build_writes_all_files_and_a_report_that_is_true(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["--model", str(checkpoint), "--out", str(out)]) == 0
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
    assert isinstance(arch.load(out / "aether_tiny_2x_fused.safetensors"), arch.FusedAetherTiny)


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
    assert main(args) == 0
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
    (folder / "._a.png").write_bytes(b"\0\5\x16\7 of macOS")  # hidden files are no images
    assert len(pictures.read_folder(folder)) == 1
    out = tmp_path / "out"
    args = ["--int8", "--model", str(checkpoint), "--calibration", str(folder), "--out", str(out), "--opset", "21"]
    assert main(args) == 0
    (report,) = json.loads((out / "report.json").read_text())["models"]
    assert report["files"]["aether_tiny_2x_fp32_int8.onnx"]["opset"] == 21


def test_channels_without_pictures_are_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.pth"
    arch.write_checkpoint(arch.aether_tiny(2, in_chans=4, embed_dim=8, depth=3).state_dict(), path)
    assert main(["--model", str(path), "--out", str(tmp_path / "out")]) == 1
    assert onnx.main([str(path), str(tmp_path / "net.onnx")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("4 channels" in line for line in lines)
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_fuse_command(
    checkpoint: Path, tiny: arch.AetherTiny, images: list[Tensor], tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"fused{suffix}"
    assert fuse.main([str(checkpoint), str(target)]) == 0
    assert torch.allclose(arch.load(target)(images[0]), tiny(images[0]), atol=1e-5)


def test_onnx_command(checkpoint: Path, tmp_path: Path, images: list[Tensor]) -> None:
    target = tmp_path / "net.onnx"
    args = [str(checkpoint), str(target), "--fp16", "--opset", "18", "--static", "48x48"]
    assert onnx.main(args) == 0
    out = runtimes.load(target.read_bytes(), "ort")(images[0].numpy())
    assert out.shape == (1, 3, 96, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "missing.safetensors"], "no such file"),
        (["--model", "nosuchpreset"], "no preset"),
        (["--model", "FOREIGN"], "not an AetherNet checkpoint"),
        (["--model", "CHECKPOINT", "--opset", "16"], "18 to 21"),
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
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == before


def test_files_of_another_network_are_not_replaced(
    checkpoint: Path, tiny: arch.AetherTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other.safetensors"
    arguments = ["--fp32", "--out", str(out), "--model"]
    assert main([*arguments, str(checkpoint)]) == 0
    with torch.no_grad():
        next(tiny.parameters()).mul_(2)
    arch.write_checkpoint(tiny.state_dict(), other)
    before = {p: p.read_bytes() for p in out.iterdir()}
    assert main([*arguments, str(other)]) == 1
    assert "of another network; give another --out, or --overwrite" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    assert main([*arguments, str(checkpoint)]) == 0
    assert main([*arguments, str(other), "--overwrite"]) == 0
    assert (out / "aether_tiny_2x_fp32.onnx").read_bytes() != before[out / "aether_tiny_2x_fp32.onnx"]


def test_presets_have_files_of_their_own(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two presets of one variant, as tiny_2x and tiny_2x_video are."""
    monkeypatch.setattr(presets, "DIR", tmp_path / "presets")
    for name in ("one_2x", "two_2x"):
        path = tmp_path / "presets" / name / "x.safetensors"
        path.parent.mkdir(parents=True)
        shutil.copy(checkpoint, path)
        presets.save(name, {"files": {"notfused": presets.describe(path)}})
    assert main(["--fp32", "--out", str(tmp_path / "out")]) == 0
    names = {f"aether_{n}_2x_{k}" for n in ("one", "two") for k in ("fp32.onnx", "fused.safetensors")}
    assert names < {p.name for p in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(("command", "name"), [(fuse.main, "fused.pth"), (onnx.main, "net.onnx")])
def test_an_existing_file_is_not_replaced(
    command: Callable[[list[str]], int],
    name: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / name
    target.write_bytes(b"mine")
    assert command([str(checkpoint), str(target)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    if name == "net.onnx":  # nor by one that fails its check
        with monkeypatch.context() as patch:
            patch.setitem(verify.TOLERANCE, "fp32", -1.0)
            assert command([str(checkpoint), str(target), "--overwrite"]) == 1
        assert target.read_bytes() == b"mine"
        assert not list(tmp_path.glob(".*"))
    assert command([str(checkpoint), str(target), "--overwrite"]) == 0
    assert target.read_bytes() != b"mine"


def test_ranges_of_another_network_are_refused(
    checkpoint: Path, images: list[Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = quantize(arch.fuse(arch.aether_tiny(2, embed_dim=8, depth=6)))
    calibrate(deeper, images)
    arch.write_checkpoint(deeper.state_dict(), tmp_path / "qat.pth")
    arguments = ["--model", str(checkpoint), "--qat", str(tmp_path / "qat.pth"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "another network than" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_failed_check_leaves_no_file_and_stops_no_other(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "INT8_PSNR", 200.0)
    out = tmp_path / "out"
    assert main(["--int8", "--model", str(checkpoint), "--out", str(out)]) == 1
    assert "at least 200 is needed" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    assert main(["--model", str(checkpoint), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "tiny_2x_int8" in error and "at least 200 is needed" in error and error.count("\n") == 1
    assert {p.name for p in out.glob("*.onnx")} == {"aether_tiny_2x_fp16.onnx", "aether_tiny_2x_fp32.onnx"}
    (report,) = json.loads((out / "report.json").read_text())["models"]
    assert list(report["failed"]) == ["int8"]
    with pytest.raises(ExportError, match="at least 200 is needed"):
        build(checkpoint, tmp_path / "strict")
    assert list((tmp_path / "strict").iterdir()) == []


def test_the_report_keeps_what_the_folder_keeps(checkpoint: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other.safetensors"
    arch.write_checkpoint(arch.aether_tiny(2, embed_dim=8, depth=3, border=1).state_dict(), other)
    arguments = ["--out", str(out), "--model"]

    def models() -> dict[str, set[str]]:
        found = json.loads((out / "report.json").read_text())["models"]
        assert all(m["versions"]["torch"] for m in found)
        return {m["name"]: {f["kind"] for f in m["files"].values()} for m in found}

    weights = {"fused", "notfused"}
    assert main(["--fp32", *arguments, str(checkpoint)]) == 0
    assert main(["--fp16", *arguments, str(checkpoint)]) == 0
    assert models() == {"tiny_2x": {"fp32", "fp16"} | weights}
    three = tmp_path / "three.safetensors"
    arch.write_checkpoint(arch.aether_tiny(3, embed_dim=8, depth=3).state_dict(), three)
    assert main(["--fp32", *arguments, str(three)]) == 0
    assert models() == {"tiny_2x": {"fp32", "fp16"} | weights, "tiny_3x": {"fp32"} | weights}
    (out / "aether_tiny_2x_fp32.onnx").unlink()
    assert main(["--fp32", *arguments, str(three)]) == 0
    assert models() == {"tiny_2x": {"fp16"} | weights, "tiny_3x": {"fp32"} | weights}
    assert main(["--fp32", "--overwrite", *arguments, str(other)]) == 0
    assert models()["tiny_2x"] == {"fp32"} | weights  # the fp16 file is another network's


def test_a_report_of_others_is_not_replaced(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ("mine", "[]", '{"models": 3}'):
        (tmp_path / "report.json").write_text(content)
        assert main(["--fp32", "--out", str(tmp_path), "--model", str(checkpoint)]) == 1
        assert "no report of export.build" in capsys.readouterr().err
        assert (tmp_path / "report.json").read_text() == content
        assert not list(tmp_path.glob("*.onnx"))


def test_a_trained_checkpoint_belongs_to_the_network_that_it_began_with(
    checkpoint: Path, tiny: arch.AetherTiny, images: list[Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy.deepcopy(tiny)
    with torch.no_grad():
        other.conv_last.conv.bias.add_(0.1)  # pyright: ignore
    arch.write_checkpoint(other.state_dict(), tmp_path / "other.pth")
    arch.write_checkpoint(tiny.state_dict(), tmp_path / "same.pth")
    model = quantize(arch.fuse(tiny))
    calibrate(model, images)
    origin = weights_sha256(arch.read_checkpoint(checkpoint))
    qat = str(tmp_path / "qat.pth")
    arch.write_checkpoint(model.state_dict(), qat, origin=origin)
    arguments = ["--int8", "--qat", qat, "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "--model" in capsys.readouterr().err
    assert main([*arguments, "--model", str(tmp_path / "other.pth")]) == 1
    error = capsys.readouterr().err
    assert "qat.pth" in error and "other.pth" in error and origin[:12] in error
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--model", str(tmp_path / "same.pth")]) == 0
    (report,) = json.loads((tmp_path / "out" / "report.json").read_text())["models"]
    assert report["qat_origin"] == origin
    assert report["qat_sha256"] == hashlib.sha256(Path(qat).read_bytes()).hexdigest()


def test_trained_checkpoints_of_presets_belong_to_their_presets() -> None:
    mine = presets.path("small_2x", "notfused")
    network = source.read(mine)
    assert source.check_origin(mine, network, presets.path("small_2x", "qat")) == weights_sha256(network.state)
    with pytest.raises(ExportError, match="other weights"):
        source.check_origin(mine, network, presets.path("small_2x_video", "qat"))


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_of_torch_ao_are_calibrated_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantization: Any = pytest.importorskip("torch.ao.quantization", reason="this torch has no torch.ao.quantization")
    net = arch.AetherNet(3, 8, (1,), lk_kernel=5, norm="batch", gate="relu", image_residual=True, tail="direct")
    net.qconfig = quantization.get_default_qat_qconfig("fbgemm")  # pyright: ignore[reportArgumentType]
    prepared = quantization.prepare_qat(net.train())
    path, out = tmp_path / "qat.pth", tmp_path / "out"
    torch.save({"params": prepared.state_dict()}, path)
    assert main(["--int8", "--model", str(path), "--out", str(out)]) == 0
    (report,) = json.loads((out / "report.json").read_text())["models"]
    (int8,) = (f for f in report["files"].values() if f["kind"] == "int8")
    assert int8["ranges"].startswith("calibrated") and "torch.ao" in int8["ranges"]
    capsys.readouterr()
    assert onnx.main([str(path), str(tmp_path / "net.onnx")]) == 0
    told = capsys.readouterr().out
    assert "fp32" in told and "torch.ao" in told


def test_what_training_imports_needs_torch_alone() -> None:
    code = (
        "import sys; import export.metrics; from export import quantize, calibrate, quantizer; "
        "print([m for m in ('onnx', 'onnxscript', 'onnxruntime', 'openvino') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_its_functions(checkpoint: Path, tmp_path: Path) -> None:
    """export.build is the function, though a package of that name is behind it."""
    assert export.build is build
    target = tmp_path / "net.onnx"
    export.export_onnx(checkpoint, target, static=(16, 24))
    assert runtimes.load(target.read_bytes(), "ort")(np.zeros((1, 3, 16, 24), np.float32)).shape == (1, 3, 32, 48)


@pytest.mark.parametrize("module", ["export.build", "export.onnx", "export.fuse"])
def test_commands_start_without_a_warning(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", module]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_engines_are_built_where_there_is_a_builder(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: no engine was built")
    arguments = ["--model", str(checkpoint), "--int8", "--fp16", "--engine", "--opt-shapes", "1x3x64x96"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    (report,) = json.loads((tmp_path / "report.json").read_text())["models"]
    made = {f["kind"]: f["engine"] for f in report["files"].values() if "engine" in f}
    assert set(made) == {"fp16", "int8_fp16"}
    for facts in made.values():
        data = (tmp_path / facts["file"]).read_bytes()
        assert facts["sha256"] == hashlib.sha256(data).hexdigest()
        said = (tmp_path / f"{facts['file']}.log").read_text()
        assert facts["layers"] == layers.summarise(said)
    # at least the picture is read once, and the result written once, in float32
    assert made["fp16"]["layers"]["bytes_a_frame"] > 3 * 4 * 64 * 96 * (1 + 4)
    assert made["fp16"]["layers"]["percent_int8"] == 0 < made["int8_fp16"]["layers"]["percent_int8"]
    assert made["fp16"]["layers"]["layers"]["fp16"] >= 4


def test_without_a_builder_the_commands_are_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "_library", lambda: None)
    shapes = ["--min-shapes", "1x3x32x32", "--opt-shapes", "1x3x256x256", "--max-shapes", "16x3x1080x1920"]
    arguments = ["--model", str(checkpoint), "--int8", "--engine", *shapes, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    text = (tmp_path / "out" / "tiny_2x_trtexec.txt").read_text()
    assert text in capsys.readouterr().out
    ten, eleven = (line for line in text.splitlines() if line.startswith("trtexec"))
    assert "--stronglyTyped" in ten and "--stronglyTyped" not in eleven
    assert all("fp16_int8.onnx" in c and "--maxShapes=input:16x3x1080x1920" in c for c in (ten, eleven))
    assert main([*arguments, "--opt-shapes", "1x3x8x8"]) == 1
    assert "grow" in capsys.readouterr().err


def test_layers_of_unknown_sizes_move_an_unknown_number_of_bytes() -> None:
    tensor = "{{ Name: {}, Dimensions: [1,{},-1,4], Strides: [1], Datatype: {}, Format: (NHWC) }}"
    line = f"Inputs: [ {tensor.format('a', 3, 'Int8')}], Constants: [], Outputs: [ {tensor.format('b', 3, 'Half')}]"
    log = f"x\nLayers:\nName: c, LayerType: correlation, {line}, TacticName: t\nName: d, LayerType: kgen, Inputs: []"
    assert layers.summarise(log) == {"layers": {"int8": 1}, "percent_int8": 100.0, "bytes_a_frame": None}
    assert layers.summarise(log.replace("-1", "2"))["bytes_a_frame"] == 24 + 48
