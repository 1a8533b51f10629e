"""Engines: found by name or path, and refused unless they are ours."""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import vapoursynth as vs
from onnx import helper

from vsaether import EngineError, engines


@pytest.fixture
def save(tmp_path: Path) -> Any:
    def write(model: onnx.ModelProto) -> str:
        path = tmp_path / "engine.onnx"
        path.write_bytes(model.SerializeToString())
        return str(path)

    return write


@pytest.fixture
def model(make_engine: Any) -> onnx.ModelProto:
    return onnx.load(make_engine())


def test_facts_are_read_from_the_file(make_engine: Any) -> None:
    engine = engines.resolve(
        make_engine(precision="int8", scale=3, metadata={"name": "small_3x", "variant": "aether_small"})
    )
    assert (engine.name, engine.variant, engine.scale) == ("small_3x_int8", "aether_small", 3)
    assert (engine.precision, engine.radius, engine.licence) == ("int8", 3, "MIT")
    assert engine.model == engine.path.read_bytes()


@pytest.mark.parametrize(
    "key", ["name", "variant", "scale", "precision", "receptive_radius", "bytes_per_pixel", "licence"]
)
def test_missing_metadata(key: str, make_engine: Any) -> None:
    with pytest.raises(EngineError, match=f"no metadata aether_{key}.*python -m export"):
        engines.resolve(make_engine(metadata={key: ""}))


@pytest.mark.parametrize(
    ("key", "value"),
    [("scale", "two"), ("scale", "0"), ("scale", "nan"), ("receptive_radius", "-1"), ("bytes_per_pixel", "inf")],
)
def test_wrong_numbers(key: str, value: str, make_engine: Any) -> None:
    with pytest.raises(EngineError, match=f"aether_{key} is '{value}'; it must be a number from"):
        engines.resolve(make_engine(metadata={key: value}))


def test_unknown_precision(make_engine: Any) -> None:
    with pytest.raises(EngineError, match="aether_precision is 'fp8'; known are fp32, fp16, int8"):
        engines.resolve(make_engine(metadata={"precision": "fp8"}))


def test_external_data_is_refused_without_opening_it(model: onnx.ModelProto, save: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    with pytest.raises(EngineError, match="keeps weights in another file"):
        engines.resolve(save(model))


def test_external_data_in_a_subgraph_is_refused(model: onnx.ModelProto, save: Any) -> None:
    value = onnx.TensorProto(data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=value)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    with pytest.raises(EngineError, match="keeps weights in another file"):
        engines.resolve(save(model))


@pytest.mark.parametrize("part", ["values", "indices"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "attributes"])
def test_external_data_in_a_sparse_tensor_is_refused(part: str, place: str, model: onnx.ModelProto, save: Any) -> None:
    sparse = onnx.SparseTensorProto(dims=[1])
    getattr(sparse, part).data_location = onnx.TensorProto.EXTERNAL
    if place == "initializer":
        model.graph.sparse_initializer.append(sparse)
    else:
        value = sparse if place == "attribute" else [sparse]
        model.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=value))
    with pytest.raises(EngineError, match="keeps weights in another file"):
        engines.resolve(save(model))


def test_custom_operators_are_refused(model: onnx.ModelProto, save: Any) -> None:
    model.graph.node[0].domain = "com.example"
    with pytest.raises(EngineError, match=r"outside the default ONNX domain: com\.example"):
        engines.resolve(save(model))
    model.graph.node[0].domain = ""
    model.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(EngineError, match=r"outside the default ONNX domain: com\.microsoft"):
        engines.resolve(save(model))


def test_wrong_inputs_and_outputs(model: onnx.ModelProto, save: Any) -> None:
    good = model.SerializeToString()
    model.graph.input[0].name = "x"
    with pytest.raises(EngineError, match='must have one input named "input"; it has x'):
        engines.resolve(save(model))
    model.ParseFromString(good)
    model.graph.output.append(model.graph.output[0])
    with pytest.raises(EngineError, match='must have one output named "output"; it has output, output'):
        engines.resolve(save(model))
    model.ParseFromString(good)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    with pytest.raises(EngineError, match=r"the input must be float32 of shape \(N, 3, H, W\)"):
        engines.resolve(save(model))
    model.ParseFromString(good)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    with pytest.raises(EngineError, match=r"the output must be float32 of shape"):
        engines.resolve(save(model))


def test_not_an_engine_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_engine: str) -> None:
    for content in (b"", b"not a protobuf" * 100, Path(toy_engine).read_bytes()[:300]):
        path = tmp_path / "x.onnx"
        path.write_bytes(content)
        with pytest.raises(EngineError, match="is not an ONNX file"):
            engines.resolve(path)
    with pytest.raises(EngineError, match=r"cannot read the engine .*missing\.onnx: No such file"):
        engines.resolve(tmp_path / "missing.onnx")
    with pytest.raises(EngineError, match=r"cannot read the engine .*: Is a directory"):
        engines.resolve(f"{tmp_path}/")
    with pytest.raises(EngineError, match=r"cannot read the engine .*: embedded null byte"):
        engines.resolve("x\0.onnx")
    monkeypatch.setattr(engines, "MAX_BYTES", 1000)
    with pytest.raises(EngineError, match="an engine has at most"):
        engines.resolve(toy_engine)


@pytest.fixture
def presets(tmp_path: Path, make_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package presets with the preset toy_2x: fp32 and int8."""
    package = pytest.importorskip("presets")
    files = {}
    (tmp_path / "toy_2x").mkdir()
    for precision in ("fp32", "int8"):
        data = make_engine(precision=precision).read_bytes()
        (tmp_path / "toy_2x" / f"{precision}.onnx").write_bytes(data)
        files[precision] = {"file": f"{precision}.onnx", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (tmp_path / "toy_2x" / "preset.json").write_text(json.dumps({"name": "toy_2x", "scale": 2, "files": files}))
    monkeypatch.setattr(package, "DIR", tmp_path)
    assert package.names() == ["toy_2x"]
    return tmp_path


def test_presets_are_found_by_name(presets: Path) -> None:
    assert [engine.name for engine in engines.available()] == ["toy_2x_fp32", "toy_2x_int8"]
    assert engines.resolve("toy_2x_int8").path == presets / "toy_2x" / "int8.onnx"
    for name in ("toy_2x_fp16", "toy_2x", "nonsense", ""):
        with pytest.raises(EngineError, match=f"there is no engine '{name}'; engines: toy_2x_fp32, toy_2x_int8; or"):
            engines.resolve(name)


def test_damaged_preset_is_refused(presets: Path) -> None:
    path = presets / "toy_2x" / "int8.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="the file of engine toy_2x_int8 is damaged"):
        engines.resolve("toy_2x_int8")
    assert engines.resolve("toy_2x_fp32").precision == "fp32"


def test_released_engines_keep_flat_pictures_flat(presets_dir: Path, planes: Any) -> None:
    import vsaether

    for engine in engines.available():
        for colour in itertools.product((0.0, 0.5, 1.0), repeat=3):
            clip = vs.core.std.BlankClip(format=vs.RGBS, width=64, height=48, length=1, color=colour)
            for plane, value in zip(planes(vsaether.upscale(clip, engine.name)), colour, strict=True):
                error = abs(plane - value)
                assert error[16:-16, 16:-16].max() <= 1 / 255, (engine.name, colour)
                assert np.max(error) <= 2 / 255, (engine.name, colour)
