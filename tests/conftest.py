"""Fixtures for all: small engines with random weights, so that no test of the filter needs trained ones."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from presets.engine import PREFIX, Metadata

# benchmarks is not installed; at the end of the path, so that the packages that are come first
sys.path.append(str(Path(__file__).resolve().parents[1]))

MakeEngine = Callable[..., Path]


def _image(scale: int, linear: bool) -> np.ndarray:
    """A convolution of which DepthToSpace is the larger image, by repeating pixels or, at 2x, linear interpolation."""
    if not linear:
        return np.repeat(np.eye(3), scale * scale, 0)[:, :, None, None]
    # weights of the pixel before, the pixel itself and the one after, for both of those that replace it
    line = np.array([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])
    phases = np.einsum("ya,xb->yxab", line, line).reshape(4, 3, 3)
    return np.einsum("oi,pab->opiab", np.eye(3), phases).reshape(12, 3, 3, 3)


@contextmanager
def full_disk() -> Iterator[None]:
    """Acted by a limit on the size of files: a write itself fails half-way."""
    resource = pytest.importorskip("resource", reason="a limit on the size of files is needed to act a full disk")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def tensor(graph: onnx.GraphProto, end: str) -> TensorProto:
    """A graph's constant by its name, or the first one of which the name ends so."""
    return next(each for each in graph.initializer if each.name.endswith(end))


def rewrite(graph: onnx.GraphProto, end: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Give such a constant other numbers, in its type."""
    found = tensor(graph, end)
    values = numpy_helper.to_array(found)
    found.CopyFrom(numpy_helper.from_array(np.asarray(change(values), values.dtype), found.name))


def build_engine(
    *,
    scale: int = 2,
    kernels: tuple[int, ...] = (3, 5),
    channels: int = 8,
    precision: str = "fp32",
    linear: bool = False,
    seed: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """An engine of random convolutions with ReLU between, plus an image residual.

    Without kernels it only scales, by repeating pixels or by linear interpolation: an identity for colour. The
    receptive radius in the metadata is the true one. Entries of metadata replace the true ones, or remove them.
    """
    random = np.random.default_rng(seed)
    real = np.float16 if precision == "fp16" else np.float32
    weights, nodes = [], []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def cast(name: str, output: str, to: int) -> str:
        return node("Cast", [name], output, to=to) if precision == "fp16" else name

    def quantised(name: str, spread: float, values: np.ndarray | None = None) -> str:
        """Symmetric int8 of a tensor, or of constant values that it is to hold, where the engine is int8."""
        if precision != "int8":
            return name if values is None else constant(name, values)
        step = constant(f"{name}_step", np.array(spread / 127, np.float32))
        zero = constant(f"{name}_zero", np.array(0, np.int8))
        if values is None:
            codes = node("QuantizeLinear", [name, step, zero], f"{name}_q")
        else:
            codes = constant(f"{name}_q", np.rint(values * (127 / spread)).astype(np.int8))
        return node("DequantizeLinear", [codes, step, zero], f"{name}_dq")

    start = cast("input", "half_input", TensorProto.FLOAT16)
    image = _image(scale, linear).astype(real)
    total = node("Conv", [start, constant("image", image)], "residual", pads=[image.shape[-1] // 2] * 4)
    last, width = start, 3
    for index, kernel in enumerate(kernels):
        final = index == len(kernels) - 1
        out = 3 * scale * scale if final else channels
        gain = (0.3 if final else 1.5) / math.sqrt(width * kernel * kernel)
        weight = (random.standard_normal((out, width, kernel, kernel)) * gain).astype(real)
        source = quantised(last, 4.0 if index else 1.0)
        filters = quantised(f"weight{index}", float(abs(weight).max()), weight)
        last, width = node("Conv", [source, filters], f"conv{index}", pads=[kernel // 2] * 4), out
        last = last if final else node("Relu", [last], f"relu{index}")
    if kernels:
        total = node("Add", [total, last], "total")
    large = "half_output" if precision == "fp16" else "output"
    cast(node("DepthToSpace", [total], large, blocksize=scale, mode="CRD"), "output", TensorProto.FLOAT)
    shapes = {"input": ["batch", 3, "h", "w"], "output": ["batch", 3, "sh", "sw"]}
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "toy", *ends, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    radius = max(sum(kernel // 2 for kernel in kernels), image.shape[-1] // 2)
    # Input and output of the widest layer, and the result.
    size = 4 * (2 * max(channels, 3 * scale * scale) + 3 * scale * scale)
    facts = Metadata(f"toy_{scale}x", "aether_toy", scale, precision, radius, size, "MIT").props()
    facts |= {f"{PREFIX}{key}": value for key, value in (metadata or {}).items()}
    helper.set_model_props(model, {key: value for key, value in facts.items() if value})
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def make_engine(tmp_path_factory: pytest.TempPathFactory) -> MakeEngine:
    """make_engine(**options of build_engine) -> path of the ONNX file; equal options give the same file."""
    folder = tmp_path_factory.mktemp("engines")
    made: dict[str, Path] = {}

    def make(**options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            path = folder / f"toy_{len(made)}.onnx"
            onnx.save(build_engine(**options), path)
            made[key] = path
        return made[key]

    return make


@pytest.fixture(scope="session")
def toy_engine(make_engine: MakeEngine) -> str:
    """A 2x float32 engine with random weights and a receptive radius of 3 pixels."""
    return str(make_engine())


@pytest.fixture(scope="session")
def identity_engine(make_engine: MakeEngine) -> str:
    """A 2x engine that repeats pixels: every colour stays as it is."""
    return str(make_engine(kernels=()))
