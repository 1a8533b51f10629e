from __future__ import annotations

import numpy as np
from api import NodeContext
from nodes.impl.onnx.model import OnnxGeneric
from nodes.impl.upscale.auto_split_tiles import TileSize
from nodes.properties.inputs import ImageInput
from nodes.properties.outputs import ImageOutput

from . import _engines
from ._engines import Runtime
from ._inputs import alpha_input, tile_inputs, tiler
from ._package import processing_group
from ._upscale import upscale


@processing_group.register(
    schema_id="aethernet:upscale_with_onnx_engine",
    name="Upscale with ONNX Engine",
    description=[
        "Upscales an image with an AetherNet engine on the CPU: a released one, or a connected ONNX model.",
        "INT8 engines with OpenVINO are the fastest. An engine is computed in its own precision, never in a lower one.",
        "Tiles do not show: the result is that of the whole image. Gray images stay gray, transparency is kept.",
    ],
    icon="ONNX",
    inputs=[
        ImageInput().with_id(0),
        *_engines.engine_inputs(1, 2, 3),
        *tile_inputs(4, 5),
        alpha_input(0, 6),
    ],
    outputs=[ImageOutput("Image", image_type=_engines.output_type(1, 2, 0), assume_normalized=True)],
    node_context=True,
    see_also=["aethernet:upscale_video_frame", "aethernet:export_to_onnx", "chainner:onnx:load_model"],
)
def upscale_with_onnx_engine_node(
    context: NodeContext,
    img: np.ndarray,
    engine: str,
    model: OnnxGeneric | None,
    runtime: Runtime,
    tile_size: TileSize,
    custom_tile_size: int,
    separate_alpha: bool,
) -> np.ndarray:
    selected = _engines.select(engine, model)
    radius, memory = _engines.facts(selected)
    return upscale(
        img,
        _engines.runner(context, selected, runtime),
        channels=_engines.channels(selected),
        radius=radius,
        tiler=tiler(tile_size, custom_tile_size, lambda: _engines.fitting_pixels(memory)),
        separate_alpha=separate_alpha,
        progress=context,
    )
