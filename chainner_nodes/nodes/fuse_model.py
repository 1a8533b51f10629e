from __future__ import annotations

from nodes.properties.outputs import ModelOutput
from spandrel import ImageModelDescriptor, ModelDescriptor

import arch

from . import _models
from ._inputs import AetherNetInput
from ._package import utility_group


@utility_group.register(
    schema_id="aethernet:fuse_model",
    name="Fuse Model",
    description=[
        "Merges the training branches and norms of an AetherNet model into plain convolutions.",
        "The fused model gives the same images, faster. It cannot be trained further: keep the unfused file.",
    ],
    icon="MdMergeType",
    inputs=[AetherNetInput()],
    outputs=[ModelOutput("Input0", kind="tagged")],
    see_also=["chainner:pytorch:save_model", "aethernet:export_to_onnx"],
)
def fuse_model_node(model: ImageModelDescriptor) -> ModelDescriptor:
    fused = arch.fuse(_models.network(model))
    return _models.from_state(fused.state_dict(), model.device)
