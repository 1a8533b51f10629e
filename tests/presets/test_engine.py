"""What an engine file is, and that everything else is refused with its reason."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import ModelProto, SparseTensorProto, TensorProto, ValueInfoProto, helper

from presets import engine
from presets.engine import Metadata
from presets.errors import EngineFileError

FACTS = Metadata("toy_2x", "aether_toy", 2, "fp32", 3, 144, "MIT")


@pytest.fixture
def model(make_engine: Callable[..., Path]) -> ModelProto:
    return onnx.load(make_engine())


def test_what_is_written_is_read(model: ModelProto) -> None:
    assert engine.read(model.SerializeToString(), "x") == FACTS
    other = Metadata("net_4x", "aether_net", 4, "int8", engine.WHOLE_IMAGE, 1 << 30, "CC0-1.0")
    helper.set_model_props(model, other.props())
    assert engine.read(model.SerializeToString(), "x", channels=3) == other


@pytest.mark.parametrize("key", FACTS.props())
def test_metadata_is_needed_and_numbers_are_in_range(key: str) -> None:
    for value in ("", "two", "-1", "nan", "inf"):
        if value and key.removeprefix(engine.PREFIX) not in (*engine.LIMITS, "precision"):
            continue
        with pytest.raises(EngineFileError, match=key):
            Metadata.from_props(FACTS.props() | {key: value})
    with pytest.raises(EngineFileError, match=f"{key}.*export"):
        Metadata.from_props({name: text for name, text in FACTS.props().items() if name != key})


def test_the_page_on_the_format_lists_the_metadata() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "develop" / "engine-format.md"
    listed = re.findall(rf"^\| `({engine.PREFIX}\w+)`", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == list(FACTS.props())


def external(tensor: TensorProto) -> TensorProto:
    """The same, with its numbers in another file, which is there."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


def constant(model: ModelProto, deep: bool = False, **attribute: Any) -> None:
    """Add a Constant, in the graph or in a graph within a graph."""
    node = helper.make_node("Constant", [], ["c"], **attribute)
    for _ in range(2 if deep else 0):
        inner = helper.make_graph([node], "inner", [], [])
        node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)


def sparse(part: str) -> SparseTensorProto:
    tensor = SparseTensorProto(dims=[1])
    external(getattr(tensor, part))
    return tensor


FILE, DOMAIN = r"x\.onnx .*another file", "x.onnx .*outside the default ONNX domain: "
REFUSED: dict[str, tuple[str, Callable[[ModelProto], object]]] = {  # what is said, and of what
    "weight": (FILE, lambda m: external(m.graph.initializer[0])),
    "subgraph": (FILE, lambda m: constant(m, deep=True, value=external(TensorProto(data_type=1, dims=[1])))),
    "list": (FILE, lambda m: m.graph.node[0].attribute.add(name="x", tensors=[external(TensorProto(dims=[1]))])),
    "sparse values": (FILE, lambda m: m.graph.sparse_initializer.append(sparse("values"))),
    "sparse indices": (FILE, lambda m: constant(m, sparse_value=sparse("indices"))),
    "sparse list": (FILE, lambda m: constant(m, deep=True, sparse_value=[sparse("values")])),
    "node": (DOMAIN + "com.example", lambda m: setattr(m.graph.node[0], "domain", "com.example")),
    "inner node": (DOMAIN + "com.example", lambda m: constant(m, deep=True, domain="com.example", value_int=1)),
    "import": (DOMAIN + "com.example", lambda m: m.opset_import.add(domain="com.example", version=1)),
    "function": (DOMAIN + "model-local", lambda m: m.functions.add(name="com.example", domain="")),
    "name": ('"input"; it has x$', lambda m: setattr(m.graph.input[0], "name", "x")),
    "two outputs": ('"output"; it has output, output$', lambda m: m.graph.output.append(m.graph.output[0])),
    "type": ("input in float32", lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 10)),
    "channels": ("output in float32", lambda m: setattr(shape(m.graph.output[0])[1], "dim_value", 1)),
    "dimensions": ("input in float32 of shape", lambda m: shape(m.graph.input[0]).pop()),
}


def shape(value: ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


@pytest.mark.parametrize(("said", "breaking"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_whole_engine_is_refused_unopened(said: str, breaking: Callable, model: ModelProto) -> None:
    breaking(model)
    with pytest.raises(EngineFileError, match=said):
        engine.read(model.SerializeToString(), "x.onnx", channels=3)


def test_what_is_no_model_at_all(model: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"", b"not a protobuf" * 100, model.SerializeToString()[:300]):
        with pytest.raises(EngineFileError, match="is not an ONNX file"):
            engine.read(content, "x")
    for path, said in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (Path("x\0"), "null byte")):
        with pytest.raises(EngineFileError, match=f"(?s)cannot read the engine .*{said}"):
            engine.load(path)
    monkeypatch.setattr(engine, "MAX_BYTES", 10)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(EngineFileError, match="at most"):
        engine.load(tmp_path / "large")
