"""TensorRT: engines where its builder is, commands where it is not, and what a log says of layers."""

import hashlib
from pathlib import Path

import pytest

from export import engines, layers
from export.build.__main__ import main
from presets.tensorrt import half_around_int8

from .conftest import report_of

pytestmark = pytest.mark.usefixtures("quick")


def test_engines_are_built_where_there_is_a_builder(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: no engine was built")
    arguments = ["--model", str(checkpoint), "--int8", "--fp16", "--engine", "--opt-shapes", "1x3x64x96"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    report = report_of(tmp_path)
    made = {f["kind"]: f["engine"] for f in report["files"].values() if "engine" in f}
    assert set(made) == {"fp16", "int8_fp16"}
    around, int8 = ((tmp_path / f"aether_tiny_2x_{kind}_int8.onnx").read_bytes() for kind in ("fp16", "fp32"))
    assert around == half_around_int8(int8) == half_around_int8(around)
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
