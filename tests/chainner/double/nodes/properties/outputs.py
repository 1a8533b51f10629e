"""Double of chaiNNer's outputs: what they accept from the node."""

import numpy as np
from api import BaseOutput

from ..utils.utils import get_h_w_c


def checked_image(value: object, channels: int | None) -> np.ndarray:
    """A float32 image, without a third dimension where it is gray. Raises ValueError for other channels."""
    assert isinstance(value, np.ndarray) and value.size and value.dtype == np.float32
    given = get_h_w_c(value)[2]
    if channels not in (None, given):
        raise ValueError(f"only supports {channels} channels but was given {given}")
    return value[:, :, 0] if given == 1 and value.ndim == 3 else value


class ImageOutput(BaseOutput):
    def __init__(self, label: str, *, image_type: str, channels: int | None = None, assume_normalized: bool):
        super().__init__(label)
        self.channels = channels

    def enforce(self, value: object) -> np.ndarray:
        value = checked_image(value, self.channels)
        value.setflags(write=False)
        return value


class ModelOutput(BaseOutput):
    def __init__(self, model_type: str, *, kind: str):
        super().__init__("Model")


OnnxModelOutput = ModelOutput


class TextOutput(BaseOutput):
    def enforce(self, value: object) -> str:
        assert isinstance(value, str)
        return value
