from __future__ import annotations

from typing import Any, cast

import numpy as np
from api import KeyInfo, NodeContext
from nodes.impl.pytorch.utils import safe_cuda_cache_empty
from nodes.impl.upscale.auto_split_tiles import TileSize
from nodes.properties.inputs import ImageInput
from nodes.properties.outputs import ImageOutput
from spandrel import ImageModelDescriptor

from . import _models
from ._inputs import AetherNetInput, alpha_input, tile_inputs, tiler
from ._package import get_settings, processing_group
from ._upscale import upscale


@processing_group.register(
    schema_id="aethernet:upscale_image",
    name="Upscale Image",
    description=[
        "Upscales an image with an AetherNet model in PyTorch.",
        "Tiles do not show: the result is that of the whole image. Gray images stay gray, transparency is kept.",
        "On a CPU, **Upscale with ONNX Engine** is several times faster.",
    ],
    icon="PyTorch",
    inputs=[
        ImageInput().with_id(1),
        AetherNetInput().with_id(0),
        *tile_inputs(2, 3),
        alpha_input(1, 4),
    ],
    outputs=[ImageOutput("Image", image_type="convenientUpscale(Input0, Input1)", assume_normalized=True)],
    key_info=KeyInfo.type('string::concat(toString(Input0.scale), "x")'),
    node_context=True,
    see_also=["aethernet:upscale_with_onnx_engine", "aethernet:upscale_video_frame"],
)
def upscale_image_node(
    context: NodeContext,
    img: np.ndarray,
    model: ImageModelDescriptor,
    tile_size: TileSize,
    custom_tile_size: int,
    separate_alpha: bool,
) -> np.ndarray:
    _models.check(model)
    settings = get_settings(context)
    context.add_cleanup(safe_cuda_cache_empty, after="node" if settings.force_cache_wipe else "chain")
    run = _models.runner(model, settings)
    return upscale(
        img,
        run,
        channels=model.input_channels,
        radius=cast(Any, model.model).config.receptive_radius,
        tiler=tiler(tile_size, custom_tile_size, lambda: _models.fitting_pixels(model, settings)),
        separate_alpha=separate_alpha,
        progress=context,
    )
