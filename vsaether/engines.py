"""Engines: ONNX files of ours, found by name (``<preset>_<precision>``) or by path, read and checked."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import presets
from presets import PRECISIONS
from presets import engine as engine_file
from presets.errors import AetherNetError

from .errors import EngineError

__all__ = ["PRECISIONS", "Engine", "available", "is_preset", "names", "read", "resolve"]


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
    return [_released(name) for name in presets.engines()]


def names() -> list[str]:
    """The names of the engines which come with the package, in the presets' order, whether they can be read or not."""
    return presets.engines()


def resolve(engine: str | os.PathLike[str]) -> Engine:
    """Find an engine by its name, or by the path of an ``.onnx`` file.

    Raises EngineError if there is none, or if the file is damaged or not one of ours.
    """
    try:
        engine = os.fsdecode(engine)
    except TypeError as error:
        raise EngineError(f"engine is {engine!r}; it must be a name, or the path of an .onnx file") from error
    if engine in presets.engines():
        return _released(engine)
    if engine.endswith(".onnx") or os.sep in engine or (os.altsep and os.altsep in engine):
        return read(Path(engine))
    known = ", ".join(presets.engines()) or "none are installed"
    raise EngineError(f"there is no engine {engine!r}; engines: {known}; or give the path of an .onnx file")


def is_preset(engine: str | os.PathLike[str]) -> bool:
    """Whether this is the name of an engine without its precision."""
    return any(f"{engine}_{precision}" in presets.engines() for precision in PRECISIONS)


def read(path: Path) -> Engine:
    """Read and check an ONNX file of ours, as presets.engine says what one is. Raises EngineError."""
    try:
        return _checked(path, engine_file.load(path))
    except AetherNetError as error:
        raise EngineError(str(error)) from error


def _released(name: str) -> Engine:
    preset, precision = presets.split(name)
    try:
        found = _checked(presets.path(preset, precision), presets.read(preset, precision))
    except AetherNetError as error:
        raise EngineError(f"the engine {name} cannot be used: {error}") from error
    if found.precision != precision:
        raise EngineError(f"{found.path} is {found.precision} inside, but stands for engine {name}; reinstall")
    return found


def _checked(path: Path, data: bytes) -> Engine:
    facts = engine_file.read(data, path, channels=3)
    return Engine(
        name=f"{facts.name}_{facts.precision}",
        path=path,
        variant=facts.variant,
        scale=facts.scale,
        precision=facts.precision,
        radius=facts.receptive_radius,
        bytes_per_pixel=facts.bytes_per_pixel,
        licence=facts.licence,
        model=data,
    )
