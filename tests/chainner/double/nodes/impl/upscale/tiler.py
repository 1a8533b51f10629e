"""Double of chaiNNer's tilers."""

from dataclasses import dataclass


@dataclass
class Tiler:
    """Square tiles of at most this side, and smaller ones where memory lacks."""

    tile_size: int = 2**31

    def starting_tile_size(self, width: int, height: int) -> int:
        return min(self.tile_size, max(width, height))


NoTiling = MaxTileSize = Tiler
