"""What an engine file is: an ONNX file of ours, whole in itself, whose metadata says how it is run.

`export` writes engines, and everything that runs them reads them here: what is refused is refused everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto

from . import PRECISIONS
from .errors import EngineFileError

MAX_BYTES = 512 << 20
WHOLE_IMAGE = 1 << 16
"""The receptive radius that stands for networks which pool the whole image: no tile is large enough."""

DEFAULT_DOMAINS = ("", "ai.onnx")
PREFIX = "aether_"
LIMITS = {"scale": (1, 16), "receptive_radius": (0, WHOLE_IMAGE), "bytes_per_pixel": (1, 1 << 30)}


@dataclass(frozen=True)
class Metadata:
    """What an engine says of itself.

    name: the network's, e.g. small_2x. variant: its architecture, e.g. aether_small. precision: of `PRECISIONS`.
    receptive_radius: in input pixels; no output pixel depends on an input pixel farther away.
    bytes_per_pixel: estimated peak of the activations' memory, per input pixel. licence: of the weights.
    """

    name: str
    variant: str
    scale: int
    precision: str
    receptive_radius: int
    bytes_per_pixel: int
    licence: str

    def props(self) -> dict[str, str]:
        """As metadata_props of an ONNX model."""
        return {f"{PREFIX}{key}": str(value) for key, value in asdict(self).items()}

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Metadata:
        """From metadata_props of an ONNX model. Raises EngineFileError where they are missing or out of range."""
        texts = {}
        for field in fields(cls):
            texts[field.name] = props.get(f"{PREFIX}{field.name}", "")
            if not texts[field.name]:
                raise EngineFileError(
                    f"has no metadata {PREFIX}{field.name}: it is not an AetherNet engine; "
                    "make one from a checkpoint with python -m export.onnx"
                )
        if texts["precision"] not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise EngineFileError(f"has {PREFIX}precision {texts['precision']!r}; known are {known}")
        numbers = {key: _number(key, texts.pop(key)) for key in LIMITS}
        return cls(**texts, **numbers)  # pyright: ignore[reportArgumentType]


def _number(key: str, text: str) -> int:
    low, high = LIMITS[key]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise EngineFileError(f"has {PREFIX}{key} {text!r}; it must be a number from {low} to {high}")
    return math.ceil(value)


def load(path: Path) -> bytes:
    """The content of a file, with a limit to its size. Raises EngineFileError where it cannot be read."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise EngineFileError(f"{path} has {size >> 20} MiB; an engine has at most {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise EngineFileError(f"cannot read the engine {path}: {error.strerror}") from error
    except ValueError as error:
        if isinstance(error, EngineFileError):
            raise
        raise EngineFileError(f"cannot read the engine {path}: {error}") from error  # no file can have such a name


def read(data: bytes, source: object, channels: int | None = None) -> Metadata:
    """The metadata of a serialised engine, which is checked whole; nothing outside of it is opened.

    source: what errors call it, such as its path. channels: of the pictures that it has to take; None: any number.
    Raises EngineFileError where it is no ONNX file, holds what is refused, has another interface, or is not ours.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError is not a public name
        raise EngineFileError(f"{source} is not an ONNX file: {error}") from error
    try:
        if not model.graph.node:
            raise EngineFileError("is not an ONNX file, or holds an empty graph")
        check_contents(model)
        check_interface(model.graph, channels)
        return Metadata.from_props({entry.key: entry.value for entry in model.metadata_props})
    except EngineFileError as error:
        raise EngineFileError(f"{source} {error}") from None


def check_contents(model: ModelProto) -> None:
    """Refuse data in other files, and operators that are not ONNX's own, anywhere in a model.

    Raises EngineFileError, whose message is the end of a sentence about the model.
    """
    foreign = {entry.domain for entry in model.opset_import} - set(DEFAULT_DOMAINS)
    for graph in _graphs(model.graph):
        foreign |= {node.domain for node in graph.node} - set(DEFAULT_DOMAINS)
    if foreign or model.functions:
        found = ", ".join(sorted(foreign)) or "model-local functions"
        raise EngineFileError(f"uses operators outside the default ONNX domain: {found}")
    for graph in _graphs(model.graph):
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in _tensors(graph)):
            raise EngineFileError("keeps weights in another file; an engine is one file")


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and all those in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _graphs(inner)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """All constants of a graph, those of graphs in its nodes excepted."""
    sparse: list[SparseTensorProto] = [*graph.sparse_initializer]
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def check_interface(graph: GraphProto, channels: int | None = None) -> None:
    """One input named "input" and one output named "output", float32 of shape (N, C, H, W) both, C being `channels`.

    Raises EngineFileError, whose message is the end of a sentence about the model.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for name, values in (("input", inputs), ("output", list(graph.output))):
        if [value.name for value in values] != [name]:
            given = ", ".join(value.name for value in values) or "none"
            raise EngineFileError(f'must have one {name} named "{name}"; it has {given}')
        tensor = values[0].type.tensor_type
        dims = tensor.shape.dim
        shaped = len(dims) == 4 and (dims[1].dim_value == channels if channels else dims[1].dim_value > 0)
        if tensor.elem_type != TensorProto.FLOAT or not shaped:
            raise EngineFileError(f"must have an {name} in float32 of shape (N, {channels or 'C'}, H, W)")
