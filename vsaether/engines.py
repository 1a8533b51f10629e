"""Engines: ONNX files of ours, found by name (``<preset>_<precision>``) or by path, read and checked."""

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from presets import contents

from .errors import EngineError

PRECISIONS = ("fp32", "fp16", "int8")
MAX_BYTES = 512 << 20


@dataclass(frozen=True)
class Engine:
    """A checked engine: what the filter needs to know of it.

    ``radius`` is the receptive radius in input pixels: no output pixel depends on an input pixel farther away.
    ``bytes_per_pixel`` is the estimated peak of activation memory per input pixel, from which tiles are chosen.
    """

    name: str
    path: Path
    variant: str
    scale: int
    precision: str
    radius: int
    bytes_per_pixel: int
    licence: str
    model: bytes = field(repr=False, compare=False)
    """The serialised ONNX model, exactly the bytes which were checked."""


def available() -> list[Engine]:
    """The engines which come with the package, in the presets' order.

    Raises EngineError if the file of one is missing or damaged.
    """
    return [_preset_engine(name, entry) for name, entry in _presets().items()]


def names() -> list[str]:
    """The names of the engines which come with the package, in the presets' order, whether they can be read or not."""
    return list(_presets())


def resolve(engine: str | os.PathLike[str]) -> Engine:
    """Find an engine by its name, or by the path of an ``.onnx`` file.

    Raises EngineError if there is none, or if the file is damaged or not one of ours.
    """
    try:
        engine = os.fsdecode(engine)
    except TypeError as error:
        raise EngineError(f"engine is {engine!r}; it must be a name, or the path of an .onnx file") from error
    presets = _presets()
    if engine in presets:
        return _preset_engine(engine, presets[engine])
    if engine.endswith(".onnx") or os.sep in engine or (os.altsep and os.altsep in engine):
        return read(Path(engine))
    known = ", ".join(presets) or "none are installed"
    raise EngineError(f"there is no engine {engine!r}; engines: {known}; or give the path of an .onnx file")


def is_preset(engine: str | os.PathLike[str]) -> bool:
    """Whether this is the name of an engine without its precision."""
    presets = _presets()
    return any(f"{engine}_{precision}" in presets for precision in PRECISIONS)


def read(path: Path) -> Engine:
    """Read and check an ONNX file of ours.

    Nothing outside the file is opened: external data is refused, as are operators outside the default ONNX domain.
    Raises EngineError.
    """
    return _check(path, _read_bytes(path))


def _presets() -> dict[str, tuple[Path, dict[str, Any]] | EngineError]:
    """Engine name -> path of its file and its entry in preset.json, or what is wrong with that."""
    try:
        import presets
    except ImportError:
        return {}
    found = {}
    for name in presets.names():
        try:
            files = presets.load(name)["files"]
            entries = {key: (presets.DIR / name / entry["file"], dict(entry)) for key, entry in files.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            path = presets.DIR / name / "preset.json"
            damaged = EngineError(f"the description of the preset {name} is damaged: {path} ({error}); reinstall")
            entries = dict.fromkeys(PRECISIONS, damaged)
        found |= {f"{name}_{key}": entries[key] for key in PRECISIONS if key in entries}
    return found


def _preset_engine(name: str, entry: tuple[Path, dict[str, Any]] | EngineError) -> Engine:
    if isinstance(entry, EngineError):
        raise entry
    path, facts = entry
    model = _read_bytes(path)
    if hashlib.sha256(model).hexdigest() != facts.get("sha256"):
        raise EngineError(
            f"the file of engine {name} is damaged (its SHA-256 is not the released one): {path}; reinstall"
        )
    engine = _check(path, model)
    precision = name.rpartition("_")[2]
    if engine.precision != precision:
        raise EngineError(f"{path} is {engine.precision} inside, but stands for engine {name}; reinstall")
    return engine


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise EngineError(f"{path} has {size >> 20} MiB; an engine has at most {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError where no file can have such a name
        raise EngineError(f"cannot read the engine {path}: {getattr(error, 'strerror', None) or error}") from error


def _check(path: Path, data: bytes) -> Engine:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError is not a public name
        raise EngineError(f"{path} is not an ONNX file: {error}") from error
    if not model.graph.node:
        raise EngineError(f"{path} is not an ONNX file, or holds an empty graph")
    if wrong := contents.fault(model):
        raise EngineError(f"{path} {wrong}")
    _check_interface(path, model.graph)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    precision = _text(path, facts, "precision")
    if precision not in PRECISIONS:
        raise EngineError(f"{path}: aether_precision is {precision!r}; known are {', '.join(PRECISIONS)}")
    name = _text(path, facts, "name")
    return Engine(
        name=f"{name}_{precision}",
        path=path,
        variant=_text(path, facts, "variant"),
        scale=_number(path, facts, "scale", 1, 16),
        precision=precision,
        radius=_number(path, facts, "receptive_radius", 0, 1 << 16),
        bytes_per_pixel=_number(path, facts, "bytes_per_pixel", 1, 1 << 30),
        licence=_text(path, facts, "licence"),
        model=data,
    )


def _text(path: Path, facts: dict[str, str], key: str) -> str:
    value = facts.get(f"aether_{key}", "")
    if not value:
        raise EngineError(
            f"{path} has no metadata aether_{key}: it is not an AetherNet engine; "
            "make one from a checkpoint with python -m export.onnx"
        )
    return value


def _number(path: Path, facts: dict[str, str], key: str, low: int, high: int) -> int:
    text = _text(path, facts, key)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise EngineError(f"{path}: aether_{key} is {text!r}; it must be a number from {low} to {high}")
    return math.ceil(value)


def _check_interface(path: Path, graph: onnx.GraphProto) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for kind, values, name in (("input", inputs, "input"), ("output", graph.output, "output")):
        if [value.name for value in values] != [name]:
            given = ", ".join(value.name for value in values) or "none"
            raise EngineError(f'{path} must have one {kind} named "{name}"; it has {given}')
        tensor = values[0].type.tensor_type
        dims = tensor.shape.dim
        if tensor.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4 or dims[1].dim_value != 3:
            raise EngineError(f"{path}: the {kind} must be float32 of shape (N, 3, H, W)")
