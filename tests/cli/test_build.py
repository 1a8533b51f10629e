"""``vsaether build``, and the rules that a graph has to keep for TensorRT."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import presets
from presets.tensorrt import half_around_int8
from vsaether import engines
from vsaether.backends import TensorRT, TensorRTRTX, lint
from vsaether.cli import main

from ..conftest import MakeEngine

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
    said = (tmp_path / "tiny.engine.log").read_text()
    assert "Datatype: Int8" in said
    assert "Datatype: Half" in said  # outside of int8
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.engine", "tiny.engine.log"}
    assert main(command) == 1
    assert "exists" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--min-shapes", "1x3x64x64", "--opt-shapes", "1x3x32x32"]) == 1
    assert "do not grow" in capsys.readouterr().err


def test_without_the_library_the_commands_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an engine's own file, and of int8 with float16 around it, which is written for them and replaces nothing."""
    monkeypatch.setattr(TensorRT, "library", lambda: None)
    made = tmp_path / "small_fp16_int8.onnx"
    for name, source in (("small_2x_fp16", engines.resolve("small_2x_fp16").path), ("small_2x_int8", made)):
        assert main(["build", name, str(tmp_path / "small.engine")]) == 0
        out = capsys.readouterr().out
        assert out.count("trtexec ") == out.count(f"--onnx={source} ") == 2
        assert ("float16" in out) == (source == made)
    assert list(tmp_path.iterdir()) == [made]
    assert made.read_bytes() == half_around_int8(presets.read("small_2x", "int8"))
    assert engines.resolve(made).precision == "int8"
    assert main(["build", "small_2x_int8", str(tmp_path / "small.engine")]) == 1
    assert "exists" in capsys.readouterr().err


def test_released_engines_keep_the_rules() -> None:
    available = engines.available()
    assert {engine.name: lint.violations(engine.model) for engine in available} == {each.name: [] for each in available}


def break_rule(model: onnx.ModelProto, rule: str) -> str:
    """Break a rule of a graph; the name of the node that does."""
    nodes = model.graph.node
    kind = {"prelu": "Relu", "pad": "Conv"}.get(rule, "QuantizeLinear")
    floats = {name for n in nodes if n.op_type == "DequantizeLinear" for name in n.output}
    node = next(n for n in nodes if n.op_type == kind and (rule != "pad" or n.input[0] in floats))
    constant = {
        "unsigned": np.array(0, np.uint8),
        "shifted": np.array(3, np.int8),
        "two_scales": np.full(3, 0.1, np.float32),
        "prelu": np.full((1, 1, 1), 0.1, np.float32),
        "pad": np.zeros(8, np.int64),
    }[rule]
    model.graph.initializer.append(numpy_helper.from_array(constant, rule))
    if rule == "prelu":
        node.op_type = "PRelu"
        node.input.append(rule)
    elif rule == "pad":
        nodes.append(helper.make_node("Pad", [node.input[0], rule], ["padded"]))
        node.input[0] = "padded"
    else:
        node.input[1 if rule == "two_scales" else 2] = rule
    return node.name or node.output[0]


@pytest.mark.parametrize("rule", ["unsigned", "shifted", "two_scales", "prelu", "pad"])
def test_a_broken_rule_is_told_with_its_node(make_engine: MakeEngine, tmp_path: Path, rule: str) -> None:
    """Nothing is built then."""
    model = onnx.load(make_engine(precision="int8"))
    name = break_rule(model, rule)
    violations = lint.violations(model.SerializeToString())
    assert any(line.startswith(f"node {name}: ") for line in violations)
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    assert main(["build", str(path), str(tmp_path / "out.engine")]) == 1
    assert not (tmp_path / "out.engine").exists()
