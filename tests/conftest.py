"""Fixtures for all: small engines with random weights, so that no test of the filter needs trained ones."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

MakeEngine = Callable[..., Path]


def build_engine(
    *,
    scale: int = 2,
    kernels: tuple[int, ...] = (3, 5),
    channels: int = 8,
    strength: float = 0.3,
    int8: bool = False,
    seed: int = 0,
    bytes_per_pixel: int = 256,
    **overrides: str,
) -> onnx.ModelProto:
    """Random convolutions with ReLU between, plus a nearest-neighbour image residual, then DepthToSpace.

    Without kernels the engine is nearest-neighbour scaling: an identity for colour. The receptive radius in the metadata
    is the true one. Overrides replace metadata.
    """
    random = np.random.default_rng(seed)
    weights, nodes = [], []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def quantised(name: str, spread: float) -> str:
        """Symmetric int8 of one tensor, as in the exported engines."""
        step = constant(f"{name}_scale", np.array(spread / 127, np.float32))
        zero = constant(f"{name}_zero", np.array(0, np.int8))
        nodes.append(helper.make_node("QuantizeLinear", [name, step, zero], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", step, zero], [f"{name}_dq"]))
        return f"{name}_dq"

    # The residual: channel-major repetition is what DepthToSpace (CRD) spreads over scale x scale pixels.
    repeat = np.repeat(np.eye(3, dtype=np.float32), scale * scale, 0)[:, :, None, None]
    nodes.append(helper.make_node("Conv", ["input", constant("repeat", repeat)], ["residual"]))
    last, width = "input", 3
    for index, kernel in enumerate(kernels):
        final = index == len(kernels) - 1
        out = 3 * scale * scale if final else channels
        gain = (strength if final else 1.5) / math.sqrt(width * kernel * kernel)
        weight = random.standard_normal((out, width, kernel, kernel)).astype(np.float32) * gain
        source, filters = last, constant(f"weight{index}", weight)
        if int8:
            source, filters = (
                quantised(last, 1.0 if index == 0 else 4.0),
                quantised(filters, float(abs(weight).max())),
            )
        nodes.append(helper.make_node("Conv", [source, filters], [f"conv{index}"], pads=[kernel // 2] * 4))
        last, width = f"conv{index}", out
        if not final:
            nodes.append(helper.make_node("Relu", [last], [f"relu{index}"]))
            last = f"relu{index}"
    total = "residual"
    if kernels:
        nodes.append(helper.make_node("Add", ["residual", last], ["total"]))
        total = "total"
    nodes.append(helper.make_node("DepthToSpace", [total], ["output"], blocksize=scale, mode="CRD"))

    def tensor(name: str, height: str, width: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3, height, width])

    graph = helper.make_graph(
        nodes, "toy", [tensor("input", "h", "w")], [tensor("output", "sh", "sw")], initializer=weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    metadata = {
        "name": f"toy_{scale}x",
        "variant": "aether_toy",
        "scale": str(scale),
        "precision": "int8" if int8 else "fp32",
        "receptive_radius": str(sum(kernel // 2 for kernel in kernels)),
        "bytes_per_pixel": str(bytes_per_pixel),
        "licence": "MIT",
    } | overrides
    helper.set_model_props(model, {f"aether_{key}": value for key, value in metadata.items() if value})
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def make_engine(tmp_path_factory: pytest.TempPathFactory) -> MakeEngine:
    """make_engine(**options of build_engine) -> path of the ONNX file; equal options give the same file."""
    folder = tmp_path_factory.mktemp("engines")
    made: dict[str, Path] = {}

    def make(**options: object) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = folder / f"toy_{len(made)}.onnx"
            onnx.save(build_engine(**options), made[key])  # type: ignore[arg-type]
        return made[key]

    return make


@pytest.fixture(scope="session")
def toy_engine(make_engine: MakeEngine) -> str:
    """A 2x float32 engine with random weights and a receptive radius of 3 pixels."""
    return str(make_engine())


@pytest.fixture(scope="session")
def identity_engine(make_engine: MakeEngine) -> str:
    """A 2x engine that is nearest-neighbour scaling: every colour stays as it is."""
    return str(make_engine(kernels=()))


@pytest.fixture(scope="session")
def presets_dir() -> Path:
    """The folder of the installed presets; the test is skipped, aloud, while there are none."""
    presets = pytest.importorskip("presets", reason="the package presets is not installed")
    if not presets.names():
        pytest.skip("there are no presets yet")
    return presets.DIR
