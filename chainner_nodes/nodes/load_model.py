from __future__ import annotations

from pathlib import Path

from api import NodeContext
from logger import logger
from nodes.groups import if_enum_group
from nodes.properties.inputs import PthFileInput
from nodes.properties.outputs import ModelOutput, TextOutput
from spandrel import ModelDescriptor

import arch
import presets

from . import _models
from ._inputs import ARCHITECTURE, choice
from ._package import get_settings, io_group

FILE = "file"
NAMES = [*presets.names(), FILE]


@io_group.register(
    schema_id="aethernet:load_model",
    name="Load Model",
    description=[
        "Load an AetherNet model: a released one by its name, or a file (.safetensors, .pth).",
        "All layouts are recognised, fused or not, and every size and option is read from the file.",
        "chaiNNer's own **Load Model** loads AetherNet files too. Only this node keeps the ranges of models that were"
        " trained for INT8, which **Export to ONNX** then uses.",
    ],
    icon="PyTorch",
    inputs=[
        choice("Model", NAMES, {FILE: "File"}, default=NAMES[0]).with_id(0),
        if_enum_group(0, FILE)(PthFileInput(primary_input=True).make_optional().with_id(1)),
    ],
    outputs=[
        ModelOutput(f'PyTorchModel {{ arch: "{ARCHITECTURE}" }}', kind="tagged").suggest(),
        TextOutput("Name"),
    ],
    node_context=True,
    see_also=["chainner:pytorch:load_model", "aethernet:upscale_image"],
    side_effects=True,
)
def load_model_node(context: NodeContext, name: str, path: Path | None) -> tuple[ModelDescriptor, str]:
    settings = get_settings(context)
    if name == FILE:
        if path is None:
            raise ValueError("No file was given; choose one, or a released model.")
        name = path.stem
    else:
        path = presets.verified(name, "notfused")
    model = _models.from_state(arch.read_checkpoint(path), settings.device)
    if settings.use_fp16 and not model.supports_half:
        logger.info("%s runs in FP32: it is not released for half precision in PyTorch.", path.name)
    elif settings.use_fp16:
        model.half()
    return model, name
