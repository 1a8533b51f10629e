"""Double of chaiNNer's outputs: what they accept from the node."""

from __future__ import annotations

from typing import Any

import numpy as np
from api import BaseOutput

from ..utils.utils import get_h_w_c


class ImageOutput(BaseOutput):
    def __init__(
        self,
        label: str = "Image",
        *,
        image_type: Any = "Image",
        kind: str = "generic",
        has_handle: bool = True,
        channels: int | None = None,
        shape_as: int | None = None,
        size_as: int | None = None,
        assume_normalized: bool = False,
    ):
        super().__init__(image_type, label, kind=kind, has_handle=has_handle)
        self.channels, self.assume_normalized = channels, assume_normalized

    def enforce(self, value: object) -> np.ndarray:
        assert isinstance(value, np.ndarray) and value.size
        c = get_h_w_c(value)[2]
        assert self.channels in (None, c)
        value = value[:, :, 0] if c == 1 and value.ndim == 3 else value
        assert self.assume_normalized and value.dtype == np.float32
        value.setflags(write=False)
        return value


class ModelOutput(BaseOutput):
    def __init__(self, model_type: Any = "PyTorchModel", label: str = "Model", kind: str = "generic"):
        super().__init__(model_type, label, kind=kind)


class OnnxModelOutput(BaseOutput):
    def __init__(self, model_type: Any = "OnnxModel", label: str = "Model", kind: str = "generic"):
        super().__init__(model_type, label, kind=kind)


class TextOutput(BaseOutput):
    def __init__(self, label: str, output_type: Any = "string"):
        super().__init__(output_type, label)

    def enforce(self, value: object) -> str:
        assert isinstance(value, str)
        return value
