from __future__ import annotations

from enum import Enum
from pathlib import Path

from api import NodeContext
from nodes.groups import if_enum_group
from nodes.impl.onnx.model import OnnxModel
from nodes.properties.inputs import BoolInput, DirectoryInput, EnumInput, RelativePathInput
from nodes.properties.outputs import OnnxModelOutput, TextOutput
from spandrel import ImageModelDescriptor

import arch
from export import pictures, pipeline, runtimes
from export.files import folder, write
from export.source import Source
from export.verify import Precision

from . import _engines, _models
from ._inputs import AetherNetInput
from ._package import utility_group


class EnginePrecision(Enum):
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@utility_group.register(
    schema_id="aethernet:export_to_onnx",
    name="Export to ONNX",
    description=[
        "Writes an AetherNet model as an ONNX engine: fused, in the precision chosen, and compared with the model on"
        " OpenVINO and ONNX Runtime before the file appears.",
        "INT8 takes the ranges that the model learnt in training. A model without any is calibrated on the images of a"
        " folder, or on bundled ones where none is given: about a minute for a small model.",
        "The file runs in **Upscale with ONNX Engine**, in chaiNNer's ONNX nodes, in VapourSynth, and on TensorRT.",
    ],
    icon="ONNX",
    inputs=[
        AetherNetInput().with_id(0),
        EnumInput(
            EnginePrecision,
            "Precision",
            option_labels={
                EnginePrecision.FP32: "FP32",
                EnginePrecision.FP16: "FP16",
                EnginePrecision.INT8: "INT8",
            },
        ).with_id(1),
        if_enum_group(1, EnginePrecision.INT8)(
            DirectoryInput("Calibration Images")
            .make_optional()
            .with_id(2)
            .with_docs("Up to 64 images like those that will be upscaled; they are downscaled first.")
        ),
        DirectoryInput("Directory", must_exist=False).with_id(3),
        RelativePathInput("Name")
        .make_optional()
        .with_id(4)
        .with_docs("Without a name: that of the model, scale and precision, e.g. aether_small_2x_int8."),
        BoolInput("Overwrite", default=False).with_id(5),
    ],
    outputs=[
        OnnxModelOutput(
            'OnnxModel { subType: "Generic", scaleWidth: Input0.scale, scaleHeight: Input0.scale,'
            " inputChannels: Input0.inputChannels, outputChannels: Input0.outputChannels }",
            kind="tagged",
        ),
        TextOutput("Name"),
    ],
    node_context=True,
    side_effects=True,
    see_also=["aethernet:upscale_with_onnx_engine", "aethernet:fuse_model"],
)
def export_to_onnx_node(
    context: NodeContext,
    model: ImageModelDescriptor,
    precision: EnginePrecision,
    calibration: Path | None,
    directory: Path,
    name: str | None,
    overwrite: bool,
) -> tuple[OnnxModel, str]:
    given = _models.network(model)
    source = Source(given, arch.fuse(given), _models.state(model) if precision == EnginePrecision.INT8 else {})
    name = name or f"aether_{source.name}_{precision.value}"
    path = (directory / f"{name}.onnx").resolve()
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already; choose another name or directory, or switch Overwrite on.")
    runtimes.check_installed()
    scale, channels = source.config.scale, source.config.in_chans
    calibrate = precision == EnginePrecision.INT8 and not source.quantized
    images = pictures.calibration(calibration, scale, channels) if calibrate else []
    context.set_progress(0.1)
    network = pipeline.quantise(source, images) if precision == EnginePrecision.INT8 else source.fused
    context.set_progress(0.5)
    kind: Precision = precision.value
    checks = [lr for lr, _ in pictures.evaluation(scale, channels)[: pictures.CHECKS]]
    engine = pipeline.make(network, kind, checks, name=source.name)
    context.check_aborted()
    folder(path.parent)
    write(engine.data, path)
    context.set_progress(1.0)
    return _engines.generic(engine.data), name
