"""Backends: what runs an engine on frames. One file and one small frozen dataclass each, behind one interface."""

import os
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import Any, get_type_hints

from .. import engines
from ..engines import Engine
from ..errors import ArgumentError, BackendError
from .base import MAX_STREAMS, NUM_STREAMS, Backend
from .native import Native
from .ncnn import Ncnn
from .ort import OnnxRuntime
from .ort_cuda import OrtCUDA
from .ov import OpenVINO
from .trt import TensorRT
from .trt_rtx import TensorRTRTX

__all__ = [
    "BACKENDS",
    "MAX_STREAMS",
    "NUM_STREAMS",
    "Backend",
    "Native",
    "Ncnn",
    "OnnxRuntime",
    "OpenVINO",
    "OrtCUDA",
    "TensorRT",
    "TensorRTRTX",
    "create",
    "probe",
    "select",
]

BACKENDS: dict[str, type[Backend]] = {
    cls.name: cls for cls in (TensorRT, TensorRTRTX, OrtCUDA, Ncnn, Native, OpenVINO, OnnxRuntime)
}
"""Every backend by name, the fastest first: the order in which "auto" tries them."""


def probe() -> dict[str, str | None]:
    """Every backend's name -> None if it can run here, or else why not."""
    return {name: cls.unusable() for name, cls in BACKENDS.items()}


def create(
    backend: str | Backend, engine: Engine | None = None, *, num_streams: int = NUM_STREAMS, device_id: int = 0
) -> Backend:
    """The backend of that name, or for "auto" the first which can run that engine here.

    The name can be followed by options of that backend: "native:threads=2", "ov:device=GPU,num_streams=4".
    A backend that is one already is only asked whether it can; its own num_streams and device_id hold.
    Raises BackendError if there is none, or ArgumentError if it cannot be used with these arguments.
    """
    found, _ = _first(backend, lambda cls: engine, num_streams, device_id)
    return found


def select(
    backend: str | Backend,
    engine: str | os.PathLike[str],
    *,
    num_streams: int = NUM_STREAMS,
    device_id: int = 0,
) -> tuple[Backend, Engine]:
    """The backend, and the engine of that name or path; a name without precision is the backend's fastest one.

    Raises EngineError, BackendError or ArgumentError.
    """
    if not engines.is_preset(engine):
        resolved = engines.resolve(engine)
        return create(backend, resolved, num_streams=num_streams, device_id=device_id), resolved
    found, resolved = _first(
        backend, lambda cls: engines.resolve(f"{os.fsdecode(engine)}_{cls.fastest}"), num_streams, device_id
    )
    assert resolved is not None
    return found, resolved


def _first(backend: str | Backend, engine_for: Any, num_streams: int, device_id: int) -> tuple[Backend, Engine | None]:
    """The first backend that runs the engine which engine_for gives it."""
    given = None if isinstance(backend, str) or not hasattr(backend, "run") else backend
    if given is None and (not isinstance(num_streams, Integral) or not 1 <= num_streams <= MAX_STREAMS):
        raise ArgumentError(f"num_streams is {num_streams!r}; it must be a whole number from 1 to {MAX_STREAMS}")
    name, options = (type(given).name, {}) if given is not None else _parse(backend)
    reasons = []
    auto = name == "auto"
    for cls in [type(given)] if given is not None else BACKENDS.values() if auto else [BACKENDS[name]]:
        engine = None
        if auto:  # a refusal is seen in the file alone; to ask a device can take a second
            engine = engine_for(cls)
            reason = (cls.refusal(engine) if engine else None) or cls.passed_over()
        elif not (reason := cls.unusable()):
            engine = engine_for(cls)
            reason = cls.refusal(engine) if engine else None
        if reason is None:
            return given or cls(**{"num_streams": int(num_streams), "device_id": device_id} | options), engine
        reasons.append(f"{cls.name}: {reason}")
    raise BackendError(f"no backend can be used ({'; '.join(reasons)})")


def _parse(backend: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of a text such as "ov:device=GPU,num_streams=4". Raises BackendError or ArgumentError."""
    name, separator, text = backend.partition(":") if isinstance(backend, str) else ("", "", "")
    if name not in ("auto", *BACKENDS):
        raise BackendError(f"there is no backend {backend!r}; backends: auto, {', '.join(BACKENDS)}")
    if not separator:
        return name, {}
    if name == "auto":
        raise ArgumentError(f"backend is {backend!r}; options belong to one backend, and auto is none")
    types = get_type_hints(BACKENDS[name])
    kinds = {field.name: types[field.name] for field in fields(BACKENDS[name])}  # pyright: ignore[reportArgumentType]
    known = [option for option, kind in kinds.items() if kind in _FROM_TEXT]
    options = {}
    for part in text.split(","):
        option, _, value = part.partition("=")
        if option not in known:
            raise ArgumentError(
                f"backend is {backend!r}; the options of {name} are {', '.join(known)}, as in {_EXAMPLE}"
            )
        kind = kinds[option]
        try:
            options[option] = _FROM_TEXT[kind](value)
        except (KeyError, ValueError):
            allowed = "0 or 1" if kind is bool else "a whole number"
            raise ArgumentError(f"backend is {backend!r}, where {option} is {value!r}; it must be {allowed}") from None
    return name, options


_EXAMPLE = "native:threads=2"
_FROM_TEXT: dict[Any, Any] = {
    str: str,
    int: int,
    bool: {"0": False, "1": True}.__getitem__,
    Path | None: Path,
}
"""How an option's value is read from text, by its type."""
