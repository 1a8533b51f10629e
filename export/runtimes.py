"""Running an ONNX model with the runtimes that are installed, in the precision that it is written in."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

import numpy as np

from presets import int8

from .errors import ExportError

Run = Callable[[np.ndarray], np.ndarray]


def load(model: bytes, backend: str, threads: int = 0) -> Run:
    """A function (N, C, H, W) float32 -> (N, C, s*H, s*W) float32, to be called from any thread.

    backend: "ort" or "ov"; threads: 0 = all cores.
    """
    return {"ort": _onnxruntime, "ov": _openvino}[backend](model, threads)


def _onnxruntime(model: bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(x: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {"input": x})[0])

    return run


def _openvino(model: bytes, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    config: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": "NO"}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    if not openvino_int8():
        model = int8.with_float_weights(model)
    compiled = core.compile_model(core.read_model(model), "CPU", config)
    request = compiled.create_infer_request()
    lock = threading.Lock()  # the request has one output; a call takes all cores anyway

    def run(x: np.ndarray) -> np.ndarray:
        with lock:
            request.infer({0: x})
            return request.get_output_tensor(0).data.copy()

    return run


@functools.cache
def openvino_int8() -> bool:
    """Whether OpenVINO computes int8 as such here: exactly. Where it would not, `load` makes it use float32."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(int8.probe()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    out = compiled(np.ones(int8.SHAPE, np.float32))[0]
    return bool(np.allclose(out, 1, rtol=0, atol=int8.TOLERANCE))


BACKENDS = ("ort", "ov")


def milliseconds(run: Run, x: np.ndarray, seconds: float = 2.0) -> float:
    """Shortest time of one call, over at most 20 calls or `seconds`; the first one counts only where it is alone."""
    times: list[float] = []
    started = time.perf_counter()
    while not times or (len(times) < 20 and time.perf_counter() - started < seconds):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return min(times[1:] or times) * 1e3


def check_installed() -> None:
    """Raise ExportError where a runtime that verification needs is missing, or cannot be loaded."""
    try:
        import onnxruntime  # noqa: F401
        import openvino  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(f"{error.name} is not installed; verification needs it: pip install .[export]") from error
    except ImportError as error:  # its libraries: one is missing, or there is too little memory for them
        raise ExportError(f"A runtime that verification needs cannot be loaded: {error}.") from error
