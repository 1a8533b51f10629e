"""Inputs that several nodes have."""

from __future__ import annotations

import math
from collections.abc import Callable

from api import BaseInput, NestedGroup
from nodes.groups import Condition, if_enum_group, if_group
from nodes.impl.upscale.auto_split_tiles import CUSTOM, TILE_SIZE_256, TileSize, parse_tile_size_input
from nodes.impl.upscale.tiler import MaxTileSize, Tiler
from nodes.properties.inputs import BoolInput, DropDownInput, NumberInput, SrModelInput, TileSizeDropdown

import presets

ARCHITECTURE = "AetherNet"
SMALLEST_TILE = 16


def AetherNetInput() -> SrModelInput:  # noqa: N802, named as chaiNNer names its inputs
    """A PyTorch model; the editor connects only AetherNet ones, or ones it does not know yet."""
    return SrModelInput(input_type=f'PyTorchModel {{ arch: "{ARCHITECTURE}" }}')


def choice(label: str, names: list[str], labels: dict[str, str], default: str) -> DropDownInput:
    """A dropdown of names."""
    return DropDownInput(
        input_type="string",
        label=label,
        options=[{"option": labels.get(n, n), "value": n, "type": f'"{n}"'} for n in names],
        default_value=default,
    )


def tile_inputs(dropdown_id: int, custom_id: int) -> list[BaseInput | NestedGroup]:
    """The tile-size dropdown of chaiNNer's upscaling nodes, and the size that "Custom" asks for."""
    return [
        TileSizeDropdown()
        .with_id(dropdown_id)
        .with_docs(
            "Images that are too large for the memory are upscaled in tiles.",
            "Each tile is computed with all the pixels it depends on, so tiles leave no seams and do not change the"
            " result. Larger tiles are faster.",
            hint=True,
        ),
        if_enum_group(dropdown_id, CUSTOM)(
            NumberInput("Custom Tile Size", min=SMALLEST_TILE, max=None, default=TILE_SIZE_256, unit="px").with_id(
                custom_id
            )
        ),
    ]


def alpha_input(image_id: int, alpha_id: int) -> NestedGroup:
    """How to upscale an image with transparency."""
    return if_group(Condition.type(image_id, "Image { channels: 4 } "))(
        BoolInput("Separate Alpha", default=False)
        .with_id(alpha_id)
        .with_docs(
            "Upscale alpha separately from color. Alpha becomes more accurate, but there may be dark borders where"
            " transparent meets opaque."
        )
    )


def tiler(tile_size: TileSize, custom_tile_size: int, pixels: Callable[[], float]) -> Tiler:
    """The tiler that the tile inputs ask for. pixels: how many input pixels fit into memory, for "Auto"."""

    def estimate() -> Tiler:
        side = min(pixels(), 2.0**31) ** 0.5
        return MaxTileSize(max(SMALLEST_TILE, math.floor(side)))

    return parse_tile_size_input(TileSize(custom_tile_size) if tile_size == CUSTOM else tile_size, estimate)


def engine_names() -> list[str]:
    """The released engines: <preset>_<precision>, best preset and fastest precision first."""
    order = [f"{name}_{precision}" for name in presets.names() for precision in ("int8", "fp16", "fp32")]
    return [name for name in order if name in presets.engines()]
