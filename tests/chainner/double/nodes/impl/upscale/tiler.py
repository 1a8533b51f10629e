"""Double of chaiNNer's tilers."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Tiler(ABC):
    @abstractmethod
    def starting_tile_size(self, width: int, height: int, channels: int) -> tuple[int, int]: ...

    def split(self, tile_size: tuple[int, int]) -> tuple[int, int]:
        return max(16, tile_size[0] // 2), max(16, tile_size[1] // 2)


class NoTiling(Tiler):
    def starting_tile_size(self, width: int, height: int, channels: int) -> tuple[int, int]:
        return max(width, height), max(width, height)

    def split(self, tile_size: tuple[int, int]) -> tuple[int, int]:
        raise ValueError("Image cannot be upscale with No Tiling mode.")


class MaxTileSize(Tiler):
    def __init__(self, tile_size: int = 2**31) -> None:
        self.tile_size = tile_size

    def starting_tile_size(self, width: int, height: int, channels: int) -> tuple[int, int]:
        size = min(self.tile_size, max(width, height) + 10)
        return size, size
