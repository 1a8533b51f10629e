"""``vsaether build``, and the rules that a graph has to keep for TensorRT."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vsaether import engines
from vsaether.backends import TensorRT, TensorRTRTX, lint
from vsaether.cli import main

needs_builder = pytest.mark.skipif(
    TensorRTRTX.library() is None, reason="TensorRT did NOT build: tensorrt_rtx is not installed"
)


@needs_builder
def test_an_engine_is_built_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The public release's command on our int8 file; the log holds the layers' types; nothing is overwritten."""
    out = tmp_path / "tiny.engine"
    command = ["build", "tiny_2x_int8", str(out), "--library", "tensorrt-rtx"]
    shapes = ["--minShapes=input:1x3x32x32", "--optShapes=input:1x3x256x256", "--maxShapes=input:16x3x1080x1920"]
    assert main([*command, *shapes]) == 0
    assert out.stat().st_size > 100_000
    assert "Int8" in (tmp_path / "tiny.engine.log").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.engine", "tiny.engine.log"}
    assert main(command) == 1
    assert "exists" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--min-shapes", "1x3x64x64", "--opt-shapes", "1x3x32x32"]) == 1
    assert "do not grow" in capsys.readouterr().err


def test_without_the_library_the_commands_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRT, "library", classmethod(lambda cls: None))
    assert main(["build", "small_2x_int8", str(tmp_path / "small.engine")]) == 0
    out = capsys.readouterr().out
    assert out.count("trtexec ") == 2
    assert f"--onnx={engines.resolve('small_2x_int8').path}" in out
    assert not list(tmp_path.iterdir())


def test_released_engines_keep_the_rules() -> None:
    assert {engine.name: lint.violations(engine.model) for engine in engines.available()} == {
        engine.name: [] for engine in engines.available()
    }


def _unsigned(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "unsigned"))
    node.input[2] = "unsigned"
    return node.name or node.output[0]


def _shifted(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    model.graph.initializer.append(numpy_helper.from_array(np.array(3, np.int8), "shifted"))
    node.input[2] = "shifted"
    return node.name or node.output[0]


def _two_scales(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    model.graph.initializer.append(numpy_helper.from_array(np.full(3, 0.1, np.float32), "scales"))
    node.input[1] = "scales"
    return node.name or node.output[0]


def _prelu(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.op_type == "Relu")
    model.graph.initializer.append(numpy_helper.from_array(np.full((1, 1, 1), 0.1, np.float32), "slope"))
    node.op_type = "PRelu"
    node.input.append("slope")
    return node.name or node.output[0]


def _pad(model: onnx.ModelProto) -> str:
    floats = {name for n in model.graph.node if n.op_type == "DequantizeLinear" for name in n.output}
    node = next(n for n in model.graph.node if n.op_type == "Conv" and n.input[0] in floats)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.int64), "pads"))
    model.graph.node.append(helper.make_node("Pad", [node.input[0], "pads"], ["padded"]))
    node.input[0] = "padded"
    return node.name or node.output[0]


@pytest.mark.parametrize("breaking", [_unsigned, _shifted, _two_scales, _prelu, _pad])
def test_a_broken_rule_is_told_with_its_node(
    breaking: Callable[[onnx.ModelProto], str], make_engine: Callable[..., Path], tmp_path: Path
) -> None:
    """Nothing is built then."""
    model = onnx.load(make_engine(precision="int8"))
    name = breaking(model)
    violations = lint.violations(model.SerializeToString())
    assert any(line.startswith(f"node {name}: ") for line in violations)
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    assert main(["build", str(path), str(tmp_path / "out.engine")]) == 1
    assert not (tmp_path / "out.engine").exists()
