"""Double of chaiNNer's reading of ONNX models."""

from __future__ import annotations

import onnx

from .model import OnnxGeneric, OnnxInfo, OnnxModel


def load_onnx_model(model_or_bytes: onnx.ModelProto | bytes) -> OnnxModel:
    data = model_or_bytes if isinstance(model_or_bytes, bytes) else model_or_bytes.SerializeToString()
    model = onnx.load_model_from_string(data)
    channels = [v[0].type.tensor_type.shape.dim[1].dim_value for v in (model.graph.input, model.graph.output)]
    opset = model.opset_import[0].version
    return OnnxGeneric(data, OnnxInfo(opset, "fp32", input_channels=channels[0], output_channels=channels[1]))
