"""Double of chaiNNer's reading of ONNX models."""

import onnx

from .model import OnnxGeneric, OnnxInfo, OnnxModel


def load_onnx_model(model_or_bytes: bytes) -> OnnxModel:
    given = onnx.load_model_from_string(model_or_bytes).graph.input[0].type.tensor_type.shape
    return OnnxGeneric(model_or_bytes, OnnxInfo(given.dim[1].dim_value))
