"""Double of chaiNNer's inputs: what they accept, and what they hand to the node."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import spandrel
from api import BaseInput

from ..impl.onnx.model import OnnxGeneric
from ..impl.upscale.auto_split_tiles import CUSTOM, ESTIMATE, MAX_TILE_SIZE, NO_TILING, TILE_SIZE_256, TileSize
from ..utils.utils import get_h_w_c

E = TypeVar("E", bound=Enum)


class DropDownInput(BaseInput):
    def __init__(
        self,
        input_type: Any,
        label: str,
        options: list[Any],
        default_value: str | int | None = None,
        preferred_style: str = "dropdown",
        label_style: str = "default",
        groups: list[Any] | None = None,
        associated_type: Any = None,
    ):
        super().__init__(input_type, label, kind="dropdown", has_handle=False)
        self.options = options
        self.default = options[0]["value"] if default_value is None else default_value
        assert self.default in self._values()

    def _values(self) -> list[Any]:
        return [o["value"] for o in self.options]

    def enforce(self, value: object):
        assert value in self._values(), f"{value} is not a valid option"
        return value


class EnumInput(DropDownInput):
    def __init__(
        self,
        enum: type[E],
        label: str | None = None,
        *,
        default: E | None = None,
        type_name: str | None = None,
        option_labels: dict[E, str] | None = None,
        extra_definitions: str | None = None,
        preferred_style: str = "dropdown",
        label_style: str = "default",
        categories: list[Any] | None = None,
        conditions: dict[E, Any] | None = None,
        icons: dict[E, str] | None = None,
    ):
        options = [{"option": v.name, "value": v.value} for v in enum]
        super().__init__(enum.__name__, label or enum.__name__, options, default.value if default else None)
        self.enum = enum

    def enforce(self, value: object):
        return self.enum(super().enforce(value))


def BoolInput(label: str, *, default: bool = True, icon: str | None = None, has_handle: bool = False):
    class _Bool(DropDownInput):
        def enforce(self, value: object) -> bool:
            return bool(super().enforce(value))

    return _Bool("bool", label, [{"option": "Yes", "value": 1}, {"option": "No", "value": 0}], int(default))


class NumberInput(BaseInput):
    def __init__(
        self,
        label: str,
        *,
        precision: Any = 0,
        step: float | int | None = None,
        default: float | int = 0,
        min: float | int | None = 0,
        max: float | int | None = None,
        unit: str | None = None,
        note_expression: str | None = None,
        kind: str = "number",
        hide_trailing_zeros: bool = True,
        label_style: str | None = None,
        has_handle: bool = True,
    ):
        super().__init__("number", label, kind=kind, has_handle=has_handle)
        self.default, self.min, self.max = default, min, max

    def enforce(self, value: object):
        assert isinstance(value, int | float)
        value = round(value) if self.min is None else builtins_max(round(value), self.min)
        return value if self.max is None else builtins_min(value, self.max)


builtins_min, builtins_max = min, max


def TileSizeDropdown(label: str = "Tile Size", *, estimate: bool = True, default: TileSize | None = None):
    values = [ESTIMATE] * estimate + [MAX_TILE_SIZE, NO_TILING, 128, TILE_SIZE_256, 512, 1024, 2048, 4096, CUSTOM]
    return DropDownInput("TileSize", label, [{"option": str(v), "value": v} for v in values], default)


class ImageInput(BaseInput):
    def __init__(
        self,
        label: str = "Image",
        *,
        image_type: Any = "Image | Color",
        channels: int | list[int] | None = None,
        allow_colors: bool = False,
    ):
        super().__init__(image_type, label)
        self.channels = [channels] if isinstance(channels, int) else channels

    def enforce(self, value: object):
        assert isinstance(value, np.ndarray) and value.dtype == np.float32
        c = get_h_w_c(value)[2]
        if self.channels is not None and c not in self.channels:
            raise ValueError(f"The input {self.label} only supports {self.channels} channels but was given {c}.")
        return value[:, :, 0] if c == 1 and value.ndim == 3 else value


class _PathInput(BaseInput):
    def enforce(self, value: object) -> Path:
        assert isinstance(value, str | Path)
        return Path(value)


def PthFileInput(primary_input: bool = False):
    return _PathInput("File", "Model", kind="file", has_handle=False)


class DirectoryInput(_PathInput):
    def __init__(
        self,
        label: str = "Directory",
        has_handle: bool = True,
        must_exist: bool = True,
        label_style: str = "default",
    ):
        super().__init__("Directory", label, kind="directory", has_handle=has_handle)
        self.must_exist = must_exist

    def enforce(self, value: object) -> Path:
        path = super().enforce(value)
        assert path.exists() or not self.must_exist, f"Directory {path} does not exist"
        return path


class RelativePathInput(BaseInput):
    def __init__(
        self,
        label: str,
        has_handle: bool = True,
        placeholder: str | None = None,
        allow_numbers: bool = True,
        default: str | None = None,
        label_style: str = "default",
    ):
        super().__init__("string", label, kind="text", has_handle=has_handle)

    def enforce(self, value: object) -> str:
        if Path(str(value)).is_absolute():
            raise ValueError(f"Absolute paths are not allowed for input {self.label}.")
        return str(value)


class SrModelInput(BaseInput):
    def __init__(self, label: str = "Model", input_type: Any = "PyTorchModel"):
        super().__init__(input_type, label)

    def enforce(self, value: object):
        assert isinstance(value, spandrel.ImageModelDescriptor) and value.purpose in ("SR", "Restoration")
        return value


class OnnxGenericModelInput(BaseInput):
    def __init__(self, label: str = "Model", input_type: Any = "OnnxModel"):
        super().__init__(input_type, label)

    def enforce(self, value: object):
        assert isinstance(value, OnnxGeneric)
        return value
