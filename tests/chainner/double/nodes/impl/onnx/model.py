"""Double of chaiNNer's ONNX models."""

from dataclasses import dataclass


@dataclass
class OnnxInfo:
    input_channels: int | None


@dataclass(eq=False)
class OnnxGeneric:
    bytes: bytes
    info: OnnxInfo


OnnxModel = OnnxGeneric
