"""Double of chaiNNer's inputs: what they accept, and what they hand to the node."""

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import spandrel
from api import BaseInput

from ..impl.upscale.auto_split_tiles import CUSTOM, ESTIMATE, MAX_TILE_SIZE, NO_TILING, TILE_SIZE_256
from .outputs import checked_image


class DropDownInput(BaseInput):
    def __init__(self, input_type: str, label: str, options: list[dict[str, Any]], default_value: Any = None):
        super().__init__(label)
        self.values = [option["value"] for option in options]
        self.default = self.values[0] if default_value is None else default_value
        assert self.default in self.values

    def enforce(self, value: object) -> Any:
        assert value in self.values, f"{value} is not a valid option"
        return value


class EnumInput(DropDownInput):
    def __init__(self, enum: type[Enum], label: str, *, default: Any = None, type_name: Any = None, option_labels: Any):
        super().__init__(enum.__name__, label, [{"value": v.value} for v in enum], default and default.value)
        self.enum = enum

    def enforce(self, value: object) -> Enum:
        return self.enum(super().enforce(value))


class BoolInput(DropDownInput):
    def __init__(self, label: str, *, default: bool):
        super().__init__("bool", label, [{"value": 1}, {"value": 0}], int(default))

    def enforce(self, value: object) -> bool:
        return bool(super().enforce(value))


def TileSizeDropdown():
    values = [ESTIMATE, MAX_TILE_SIZE, NO_TILING, 128, TILE_SIZE_256, 512, 1024, 2048, 4096, CUSTOM]
    return DropDownInput("TileSize", "Tile Size", [{"value": v} for v in values])


class NumberInput(BaseInput):
    def __init__(self, label: str, *, min: int, max: None, default: int, unit: str):
        super().__init__(label)
        self.default = default


class ImageInput(BaseInput):
    def __init__(self, label: str = "Image", *, channels: int | None = None):
        super().__init__(label)
        self.channels = channels

    def enforce(self, value: object) -> np.ndarray:
        return checked_image(value, self.channels)


class DirectoryInput(BaseInput):
    def __init__(self, label: str, must_exist: bool = True):
        super().__init__(label)
        self.must_exist = must_exist

    def enforce(self, value: object) -> Path:
        assert isinstance(value, str | Path)
        assert Path(value).exists() or not self.must_exist, f"{value} does not exist"
        return Path(value)


def PthFileInput(primary_input: bool):
    return DirectoryInput("Model")


RelativePathInput = BaseInput


class SrModelInput(BaseInput):
    def __init__(self, *, input_type: str):
        super().__init__("Model")

    def enforce(self, value: object) -> spandrel.ImageModelDescriptor:
        assert isinstance(value, spandrel.ImageModelDescriptor) and value.purpose in ("SR", "Restoration")
        return value


def OnnxGenericModelInput():
    return BaseInput("Model")
