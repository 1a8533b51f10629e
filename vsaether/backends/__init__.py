"""Backends: what runs an engine on frames. One file and one small frozen dataclass each, behind one interface."""

import os
from numbers import Integral
from typing import Any

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
    if given is None:
        if not isinstance(num_streams, Integral) or not 1 <= num_streams <= MAX_STREAMS:
            raise ArgumentError(f"num_streams is {num_streams!r}; it must be a whole number from 1 to {MAX_STREAMS}")
        if not isinstance(backend, str) or backend not in ("auto", *BACKENDS):
            raise BackendError(f"there is no backend {backend!r}; backends: auto, {', '.join(BACKENDS)}")
    reasons = []
    auto = backend == "auto"
    for cls in [type(given)] if given is not None else BACKENDS.values() if auto else [BACKENDS[str(backend)]]:
        engine = None
        if auto:  # a refusal is seen in the file alone; to ask a device can take a second
            engine = engine_for(cls)
            reason = (cls.refusal(engine) if engine else None) or cls.passed_over()
        elif not (reason := cls.unusable()):
            engine = engine_for(cls)
            reason = cls.refusal(engine) if engine else None
        if reason is None:
            return given or cls(num_streams=int(num_streams), device_id=device_id), engine  # pyright: ignore[reportCallIssue]
        reasons.append(f"{cls.name}: {reason}")
    raise BackendError(f"no backend can be used ({'; '.join(reasons)})")
