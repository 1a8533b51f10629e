"""export.build: what it writes, what it reports, and that nothing of others is replaced."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor

import arch
import presets
from arch.checkpoint import weights_sha256
from export import onnx as onnx_command
from export import pictures, source, verify
from export.build import build
from export.build.__main__ import main
from export.errors import ExportError
from export.quantizer import quant_convs

from .conftest import calibrated, report_of

pytestmark = pytest.mark.usefixtures("quick")
ENGINES = {f"aether_tiny_2x_{kind}.onnx" for kind in ("fp32", "fp16", "fp32_int8")}


def test_build_writes_all_files_and_a_report_that_is_true(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["--model", str(checkpoint), "--out", str(out)]) == 0
    weights = {f"aether_tiny_2x_{kind}.safetensors" for kind in ("notfused", "fused")}
    assert {p.name for p in out.iterdir()} == weights | ENGINES | {"report.json"}
    report = report_of(out)
    assert (report["name"], report["variant"], report["receptive_radius"]) == ("tiny_2x", "aether_tiny", 4)
    for name, facts in report["files"].items():
        data = (out / name).read_bytes()
        assert (facts["bytes"], facts["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    int8 = report["files"]["aether_tiny_2x_fp32_int8.onnx"]
    assert (int8["nodes"]["QuantizeLinear"], int8["nodes"]["DequantizeLinear"]) == (4, 8)
    assert int8["float_convolutions"] == {}
    full = report["files"]["aether_tiny_2x_fp32.onnx"]
    assert full["quality"]["ov"]["psnr_y"] == pytest.approx(report["images"]["psnr_y_float"], abs=1e-3)
    assert 20 < int8["quality"]["ov"]["psnr_to_float"] < 60
    assert (full["quality"]["ov"]["psnr_to_float"] or 200) > 100
    assert arch.load(out / "aether_tiny_2x_fused.safetensors").config.fused == "full"


def test_a_trained_checkpoint_has_its_ranges_and_belongs_to_the_network_that_it_began_with(
    checkpoint: Path, other: Path, tiny: arch.Upscaler, images: list[Tensor], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model = calibrated(tiny, images)
    with torch.no_grad():
        conv = dict(quant_convs(model))["conv_last"]
        conv.input_quantizer._amax.fill_(2.54)
        assert conv.bias is not None
        conv.bias.add_(0.1)
    origin = weights_sha256(arch.read_checkpoint(checkpoint))
    qat, out = tmp_path / "qat.pth", tmp_path / "out"
    arch.write_checkpoint(model.state_dict(), qat, origin=origin)
    arguments = ["--int8", "--fp32", "--qat", str(qat), "--out", str(out)]
    assert main(arguments) == 1
    assert "--model" in capsys.readouterr().err
    assert main([*arguments, "--model", str(other)]) == 1
    error = capsys.readouterr().err
    assert "qat.pth" in error and str(other) in error and origin[:12] in error
    assert not out.exists()
    shutil.copy(checkpoint, tmp_path / "same.safetensors")
    assert main([*arguments, "--model", str(tmp_path / "same.safetensors")]) == 0
    report = report_of(out)
    assert (report["qat_origin"], report["qat_sha256"]) == (origin, hashlib.sha256(qat.read_bytes()).hexdigest())
    graphs = {p: onnx.load(out / f"aether_tiny_2x_{p}.onnx").graph for p in ("fp32", "fp32_int8")}
    int8, full = ({t.name: numpy_helper.to_array(t) for t in graphs[p].initializer} for p in ("fp32_int8", "fp32"))
    assert int8["conv_last.input_scale"] == pytest.approx(0.02)
    np.testing.assert_allclose(int8["conv_last.bias"], full["conv_last.bias"] + 0.1, atol=1e-6)
    assert not (out / "aether_tiny_2x_fp16.onnx").exists()


def test_trained_checkpoints_of_presets_belong_to_their_presets() -> None:
    mine = presets.path("small_2x", "notfused")
    network = source.read(mine)
    assert source.check_origin(mine, network, presets.path("small_2x", "qat")) == weights_sha256(network.state)
    with pytest.raises(ExportError, match="other weights"):
        source.check_origin(mine, network, presets.path("small_2x_video", "qat"))


def test_calibration_on_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    (folder / "._a.png").write_bytes(b"\0\5\x16\7 of macOS")  # hidden files are no images
    assert len(pictures.read_folder(folder)) == 1
    args = ["--int8", "--model", str(checkpoint), "--calibration", str(folder), "--out", str(out), "--opset", "21"]
    assert main(args) == 0
    assert report_of(out)["files"]["aether_tiny_2x_fp32_int8.onnx"]["opset"] == 21


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
    (int8,) = (f for f in report_of(out)["files"].values() if f["kind"] == "int8")
    assert int8["ranges"].startswith("calibrated") and "torch.ao" in int8["ranges"]
    capsys.readouterr()
    assert onnx_command.main([str(path), str(tmp_path / "net.onnx")]) == 0
    told = capsys.readouterr().out
    assert "fp32" in told and "torch.ao" in told


def test_files_of_another_network_are_not_replaced_and_the_report_keeps_what_the_folder_keeps(
    checkpoint: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, three = tmp_path / "out", tmp_path / "three.safetensors"
    arch.write_checkpoint(arch.aether_tiny(3, embed_dim=8, depth=3).state_dict(), three)
    weights = {"fused", "notfused"}

    def run(model: Path, *options: str) -> int:
        return main([*options, "--out", str(out), "--model", str(model)])

    def models() -> dict[str, set[str]]:
        found = json.loads((out / "report.json").read_text())["models"]
        assert all(m["versions"]["torch"] for m in found)
        return {m["name"]: {f["kind"] for f in m["files"].values()} for m in found}

    assert run(checkpoint, "--fp32") == run(checkpoint, "--fp16") == 0
    assert models() == {"tiny_2x": {"fp32", "fp16"} | weights}
    before = {p: p.read_bytes() for p in out.iterdir()}
    assert run(other, "--fp32") == 1
    assert "of another network; give another --out, or --overwrite" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    assert run(checkpoint, "--fp32") == run(three, "--fp32") == 0
    assert models() == {"tiny_2x": {"fp32", "fp16"} | weights, "tiny_3x": {"fp32"} | weights}
    (out / "aether_tiny_2x_fp32.onnx").unlink()
    assert run(three, "--fp32") == 0
    assert models() == {"tiny_2x": {"fp16"} | weights, "tiny_3x": {"fp32"} | weights}
    assert run(other, "--fp32", "--overwrite") == 0
    assert models()["tiny_2x"] == {"fp32"} | weights  # the fp16 file is another network's
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


def test_a_failed_check_leaves_no_file_and_stops_no_other(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "INT8_PSNR", 200.0)
    out = tmp_path / "out"
    assert main(["--model", str(checkpoint), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "tiny_2x_int8" in error and "at least 200 is needed" in error and error.count("\n") == 1
    assert {p.name for p in out.glob("*.onnx")} == ENGINES - {"aether_tiny_2x_fp32_int8.onnx"}
    assert list(report_of(out)["failed"]) == ["int8"]
    with pytest.raises(ExportError, match="at least 200 is needed"):
        build(checkpoint, tmp_path / "strict")
    assert list((tmp_path / "strict").iterdir()) == []


def test_a_report_of_others_is_not_replaced(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in ("mine", "[]", '{"models": 3}'):
        (tmp_path / "report.json").write_text(content)
        assert main(["--fp32", "--out", str(tmp_path), "--model", str(checkpoint)]) == 1
        assert "no report of export.build" in capsys.readouterr().err
        assert (tmp_path / "report.json").read_text() == content
        assert not list(tmp_path.glob("*.onnx"))
