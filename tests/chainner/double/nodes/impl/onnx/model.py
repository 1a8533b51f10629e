"""Double of chaiNNer's ONNX models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class OnnxInfo:
    opset: int
    dtype: str
    scale_width: int | None = None
    scale_height: int | None = None
    fixed_input_width: int | None = None
    fixed_input_height: int | None = None
    input_channels: int | None = None
    output_channels: int | None = None
    size_req: object = None


class OnnxGeneric:
    def __init__(self, model_as_bytes: bytes, info: OnnxInfo):
        self.bytes, self.sub_type, self.info = model_as_bytes, "Generic", info


class OnnxRemBg:
    def __init__(self, model_as_bytes: bytes, info: OnnxInfo):
        self.bytes, self.sub_type, self.info = model_as_bytes, "RemBg", info


OnnxModel = OnnxGeneric | OnnxRemBg
