"""Double of chaiNNer's outputs: what they accept from the node."""

import numpy as np
from api import BaseOutput

from ..utils.utils import get_h_w_c


class ImageOutput(BaseOutput):
    def __init__(self, label: str, *, image_type: str, channels: int | None = None, assume_normalized: bool):
        super().__init__(image_type, label)
        self.channels = channels

    def enforce(self, value: object) -> np.ndarray:
        assert isinstance(value, np.ndarray) and value.size and value.dtype == np.float32
        channels = get_h_w_c(value)[2]
        assert self.channels in (None, channels)
        value = value[:, :, 0] if channels == 1 and value.ndim == 3 else value
        value.setflags(write=False)
        return value


class ModelOutput(BaseOutput):
    def __init__(self, model_type: str, *, kind: str):
        super().__init__(model_type, "Model")


class OnnxModelOutput(ModelOutput):
    pass


class TextOutput(BaseOutput):
    def __init__(self, label: str):
        super().__init__("string", label)

    def enforce(self, value: object) -> str:
        assert isinstance(value, str)
        return value
