"""Importing this package inside of chaiNNer's backend registers the nodes, and AetherNet in spandrel.

chaiNNer's own Load Model and Upscale Image accept our files from then on.
"""

import arch

arch.install(ignore_duplicates=True)

from . import (  # noqa: E402
    export_to_onnx,
    fuse_model,
    load_model,
    upscale_image,
    upscale_video_frame,
    upscale_with_onnx_engine,
)

__all__ = [
    "export_to_onnx",
    "fuse_model",
    "load_model",
    "upscale_image",
    "upscale_video_frame",
    "upscale_with_onnx_engine",
]
