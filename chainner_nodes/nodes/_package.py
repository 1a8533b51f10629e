"""The package "AetherNet" in chaiNNer's terms: its category, node groups, settings and dependencies."""

from __future__ import annotations

from pathlib import Path

from api import MB, Dependency, add_package
from packages.chaiNNer_pytorch import package as pytorch_package
from packages.chaiNNer_pytorch import settings as pytorch_settings

# chaiNNer imports every Python file beside this path; the nodes are imported by chainner_nodes.nodes alone.
WHERE = Path(__file__).resolve().parent.parent / "examples" / "package"
DESCRIPTION = (
    "Super-resolution with AetherNet: PyTorch models, their export, and INT8 engines for fast upscaling on CPUs."
)

package = add_package(
    str(WHERE),
    id="aethernet",
    name="AetherNet",
    description=DESCRIPTION,
    # All others are dependencies of chaiNNer's PyTorch and ONNX packages already.
    dependencies=[
        Dependency(
            display_name="OpenVINO",
            pypi_name="openvino",
            version="2026.4.1",
            size_estimate=60 * MB,
            auto_update=False,
        ),
        # Export to ONNX: the newest pair that takes chaiNNer's onnx.
        Dependency(
            display_name="onnxscript", pypi_name="onnxscript", version="0.5.7", size_estimate=MB, auto_update=False
        ),
        Dependency(display_name="onnx-ir", pypi_name="onnx-ir", version="0.1.13", size_estimate=MB, auto_update=False),
    ],
    icon="MdAutoAwesome",
    color="#3B82F6",
)

# The same choices as for chaiNNer's PyTorch nodes (GPU, CPU mode, FP16, memory budget), read in the same way.
for setting in pytorch_package.settings:
    package.add_setting(setting)
get_settings = pytorch_settings.get_settings
PyTorchSettings = pytorch_settings.PyTorchSettings

category = package.add_category(
    name="AetherNet",
    description=DESCRIPTION,
    icon="MdAutoAwesome",
    color="#3B82F6",
    install_hint="AetherNet needs chaiNNer's PyTorch and ONNX packages, and OpenVINO for its fast engines.",
)
io_group = category.add_node_group("Input & Output")
processing_group = category.add_node_group("Processing")
video_group = category.add_node_group("Video Frames")
utility_group = category.add_node_group("Utility")
