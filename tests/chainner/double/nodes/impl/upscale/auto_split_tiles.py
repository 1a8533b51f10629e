"""Double of chaiNNer's choice of a tiler."""

from collections.abc import Callable
from typing import NewType

from .tiler import MaxTileSize, NoTiling, Tiler

TileSize = NewType("TileSize", int)
ESTIMATE = TileSize(0)
NO_TILING = TileSize(-1)
MAX_TILE_SIZE = TileSize(-2)
CUSTOM = TileSize(-3)
TILE_SIZE_256 = TileSize(256)


def parse_tile_size_input(tile_size: TileSize, estimate: Callable[[], Tiler]) -> Tiler:
    if tile_size == ESTIMATE:
        return estimate()
    return NoTiling() if tile_size in (NO_TILING, MAX_TILE_SIZE) else MaxTileSize(tile_size)
