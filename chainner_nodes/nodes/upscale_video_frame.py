from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from api import NodeContext
from nodes.impl.onnx.model import OnnxGeneric
from nodes.impl.upscale.auto_split_tiles import ESTIMATE
from nodes.properties.inputs import BoolInput, ImageInput
from nodes.properties.outputs import ImageOutput

from . import _engines
from ._engines import Runtime
from ._inputs import tiler
from ._package import video_group
from ._reuse import Reuse
from ._upscale import upscale

# By engine and runtime: iterators call the node once a frame, without a state of its own.
_REUSES: WeakKeyDictionary[OnnxGeneric, dict[Runtime, Reuse]] = WeakKeyDictionary()


@video_group.register(
    schema_id="aethernet:upscale_video_frame",
    name="Upscale Video Frame",
    description=[
        "Upscales the frames of **Load Video** (or **Load Images**) with an AetherNet engine.",
        "The engine is loaded once for the whole video; a frame that repeats an earlier one is not computed again.",
        "Connect **Save Video** behind it. For whole files, AetherNet's own command line is faster.",
    ],
    icon="MdVideoCameraBack",
    inputs=[
        ImageInput("Frame", channels=3).with_id(0),
        *_engines.engine_inputs(1, 2, 3),
        BoolInput("Reuse Repeated Frames", default=True)
        .with_id(4)
        .with_docs("Frames that equal an earlier one in every bit are not computed again; the result is the same."),
    ],
    outputs=[ImageOutput("Frame", image_type=_engines.output_type(1, 2, 0), channels=3, assume_normalized=True)],
    node_context=True,
    see_also=["chainner:image:load_video", "chainner:image:save_video", "aethernet:upscale_with_onnx_engine"],
)
def upscale_video_frame_node(
    context: NodeContext,
    frame: np.ndarray,
    engine: str,
    model: OnnxGeneric | None,
    runtime: Runtime,
    reuse: bool,
) -> np.ndarray:
    selected = _engines.select(engine, model)
    radius, memory = _engines.facts(selected)
    run = _engines.runner(context, selected, runtime)
    if reuse:
        context.add_cleanup(_REUSES.clear, after="chain")
        run = _REUSES.setdefault(selected, {}).setdefault(runtime, Reuse(run))
    return upscale(
        frame,
        run,
        channels=_engines.channels(selected),
        radius=radius,
        tiler=tiler(ESTIMATE, 0, lambda: _engines.fitting_pixels(memory)),
        separate_alpha=False,
        progress=context,
    )
