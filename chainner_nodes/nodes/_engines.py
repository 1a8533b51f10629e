"""ONNX engines: the released ones and connected ones, and their sessions."""

from __future__ import annotations

import functools
from enum import Enum
from weakref import WeakKeyDictionary

import psutil
from api import BaseInput, NestedGroup, NodeContext
from nodes.groups import if_enum_group, required
from nodes.impl.onnx.load import load_onnx_model
from nodes.impl.onnx.model import OnnxGeneric
from nodes.properties.inputs import EnumInput, OnnxGenericModelInput

import presets
from export import runtimes
from presets import engine
from presets.errors import EngineFileError

from ._inputs import choice, engine_names
from ._upscale import Run

CONNECTED = "connected"
MOST_MEMORY = 3 << 29  # bytes for activations; engines run on the CPU, where larger tiles are no faster


class Runtime(Enum):
    OPENVINO = "ov"
    ONNX_RUNTIME = "ort"


_RUNS: WeakKeyDictionary[OnnxGeneric, dict[Runtime, Run]] = WeakKeyDictionary()


def engine_inputs(engine_id: int, model_id: int, runtime_id: int) -> list[BaseInput | NestedGroup]:
    """Which engine, and what runs it."""
    names = [*engine_names(), CONNECTED]
    default = next((n for n in names if n.startswith("small") and n.endswith("int8")), names[0])
    return [
        choice("Engine", names, {CONNECTED: "Connected Model"}, default).with_id(engine_id),
        if_enum_group(engine_id, CONNECTED)(required()(OnnxGenericModelInput().make_optional().with_id(model_id))),
        EnumInput(
            Runtime,
            "Runtime",
            default=Runtime.OPENVINO,
            type_name="AetherNetRuntime",
            option_labels={Runtime.OPENVINO: "OpenVINO", Runtime.ONNX_RUNTIME: "ONNX Runtime"},
        )
        .with_id(runtime_id)
        .with_docs("Both compute on the CPU, in the engine's precision. INT8 is fast with OpenVINO only."),
    ]


def output_type(engine_id: int, model_id: int, image_id: int) -> str:
    """The type of the upscaled image, as chaiNNer's editor shows it before anything has run."""
    released = "".join(f'"{n}" => {presets.load(presets.split(n)[0])["scale"]}, ' for n in engine_names())
    return f"""
        let image = Input{image_id};
        let scale = match Input{engine_id} {{
            {released}
            _ => match Input{model_id} {{ OnnxModel as m => m.scaleWidth, _ => int(1..) }}
        }};
        Image {{ width: image.width * scale, height: image.height * scale, channels: image.channels }}
    """


def select(name: str, model: OnnxGeneric | None) -> OnnxGeneric:
    """The engine that the inputs ask for. Raises ValueError where there is none."""
    if name != CONNECTED:
        return _released(name)
    if model is None:
        raise ValueError("No model is connected; connect an ONNX model, or choose a released engine.")
    return model


@functools.lru_cache(maxsize=4)
def _released(name: str) -> OnnxGeneric:
    return generic(presets.read(*presets.split(name)))


def generic(data: bytes) -> OnnxGeneric:
    """An ONNX file of ours as chaiNNer's model."""
    model = load_onnx_model(data)
    if not isinstance(model, OnnxGeneric):
        raise ValueError("chaiNNer takes this engine for a model that removes backgrounds.")
    return model


def facts(model: OnnxGeneric) -> tuple[int, int]:
    """(receptive radius, bytes of activations) per input pixel. Raises ValueError for ONNX files of others."""
    try:
        found = engine.read(model.bytes, "This ONNX model")
    except EngineFileError as error:
        raise ValueError(
            f"{error}. In chaiNNer: use its own Upscale Image (ONNX), or make an engine with Export to ONNX."
        ) from error
    return found.receptive_radius, found.bytes_per_pixel


def channels(model: OnnxGeneric) -> int:
    """Channels of the images that an engine takes."""
    return model.info.input_channels or 3


def runner(context: NodeContext, model: OnnxGeneric, runtime: Runtime) -> Run:
    """The function that runs an engine; its session lives until the chain has ended."""
    context.add_cleanup(_RUNS.clear, after="chain")
    runs = _RUNS.setdefault(model, {})
    if runtime not in runs:
        try:
            runs[runtime] = runtimes.load(model.bytes, runtime.value)
        except ModuleNotFoundError as error:
            raise ValueError(f"{error.name} is not installed; install it in chaiNNer's dependency manager.") from error
    return runs[runtime]


def fitting_pixels(bytes_per_pixel: int) -> float:
    """How many input pixels an engine can take at once."""
    return min(MOST_MEMORY, psutil.virtual_memory().available * 0.5) / bytes_per_pixel
