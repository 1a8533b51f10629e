"""Double of chaiNNer's tilers."""


class Tiler:
    """Square tiles of at most this side, and smaller ones where memory lacks."""

    def __init__(self, tile_size: int = 2**31) -> None:
        self.tile_size = tile_size

    def starting_tile_size(self, width: int, height: int) -> int:
        return min(self.tile_size, max(width, height))


class NoTiling(Tiler):
    pass


class MaxTileSize(Tiler):
    pass
