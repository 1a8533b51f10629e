"""Tiling: a frame in parts which fit in memory, without a seam.

Neighbouring tiles share ``overlap`` pixels on each side of a cut, and these are cut off from the result. With an
overlap of at least the engine's receptive radius no kept pixel can see the cut, so the parts together equal the whole.
"""

# pyright: reportAttributeAccessIssue=false
# (VapourSynth plugins are found at run time.)

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import vapoursynth as vs

from . import system
from .errors import ArgumentError

MEMORY = 3 << 30
"""Bytes which the activations of all streams together may take."""

ALIGNMENT = 8


@dataclass(frozen=True)
class Axis:
    """The tiles along one direction, in input pixels: tile i begins at starts[i] and gives the result from edges[i] to
    edges[i + 1].
    """

    tile: int
    starts: tuple[int, ...]
    edges: tuple[int, ...]


@dataclass(frozen=True)
class Tiling:
    """A frame as columns x rows of equal tiles."""

    x: Axis
    y: Axis

    @property
    def count(self) -> int:
        """Number of tiles in a frame."""
        return len(self.x.starts) * len(self.y.starts)


def plan(
    width: int,
    height: int,
    *,
    radius: int,
    bytes_per_pixel: int,
    tile: Sequence[int] | None = None,
    overlap: Sequence[int] | None = None,
    memory: int | None = None,
) -> Tiling:
    """The tiles of a frame of width x height pixels.

    tile and overlap are (horizontal, vertical), in input pixels; a tile includes its overlaps. Without tile, the
    fewest pixels that fit in memory are computed: the whole frame if possible. memory is the bytes that there are, by
    default a share of the computer's.
    """
    over_x, over_y = overlap or (radius, radius)
    if tile is None:
        tile = _fit(width, height, over_x, over_y, (memory or budget()) // bytes_per_pixel)
    return Tiling(_axis("horizontal", width, tile[0], over_x), _axis("vertical", height, tile[1], over_y))


def budget() -> int:
    """Bytes for tiles: a fixed limit, or a quarter of a small machine's or container's memory. What is free at the
    moment must not decide, or the same script could give other bytes tomorrow.
    """
    return min(MEMORY, system.memory() // 4)


def _fit(width: int, height: int, over_x: int, over_y: int, pixels: int) -> tuple[int, int]:
    """The tile size which makes the least work of those with at most so many pixels, or the smallest sensible one."""
    fitting: list[tuple[int, int, int, int]] = []
    for tile_w in _sizes(width, over_x):
        for tile_h in _sizes(height, over_y):
            if tile_w * tile_h <= pixels:
                count = _count(width, tile_w, over_x) * _count(height, tile_h, over_y)
                fitting.append((count * tile_w * tile_h, count, tile_w, tile_h))
    if not fitting:
        return _sizes(width, over_x)[-1], _sizes(height, over_y)[-1]
    return min(fitting)[2:]


def _sizes(length: int, overlap: int) -> list[int]:
    """Tile sizes for 1, 2, 3 ... tiles, falling, while a tile gives at least 16 pixels of result."""
    sizes = [length]
    for count in range(2, length // 16 + 1):
        size = math.ceil((length + 2 * overlap * (count - 1)) / count / ALIGNMENT) * ALIGNMENT
        if size - 2 * overlap < 16:
            break
        if size < sizes[-1]:
            sizes.append(size)
    return sizes


def _count(length: int, tile: int, overlap: int) -> int:
    return 1 if tile >= length else 1 + math.ceil((length - tile) / (tile - 2 * overlap))


def _axis(direction: str, length: int, tile: int, overlap: int) -> Axis:
    if tile >= length:
        return Axis(length, (0,), (0, length))
    if tile <= 2 * overlap:
        raise ArgumentError(
            f"tile is {tile} in {direction} direction, with an overlap of {overlap} on either side nothing of it is "
            f"left; give a tile of more than {2 * overlap}"
        )
    step = tile - 2 * overlap
    starts = tuple(min(i * step, length - tile) for i in range(_count(length, tile, overlap)))
    return Axis(tile, starts, (0, *(start + overlap for start in starts[1:]), length))


def upscale_tiles(
    clip: vs.VideoNode, tiling: Tiling, scale: int, infer: Callable[[vs.VideoNode], vs.VideoNode]
) -> vs.VideoNode:
    """Pass a clip tile by tile through one call of infer, which multiplies its size by scale."""
    if tiling.count == 1:
        return infer(clip)
    x, y = tiling.x, tiling.y
    tiles = [clip.std.CropAbs(width=x.tile, height=y.tile, left=left, top=top) for top in y.starts for left in x.starts]
    results = infer(vs.core.std.Interleave(tiles, modify_duration=False))
    # Every tile is asked for once: its neighbours' requests are for other frames of the same node.
    results.std.SetVideoCache(mode=0)
    rows = []
    for row, top in enumerate(y.starts):
        parts = []
        for column, left in enumerate(x.starts):
            index = row * len(x.starts) + column
            part = results.std.SelectEvery(tiling.count, index, modify_duration=False)
            parts.append(
                part.std.CropAbs(
                    width=(x.edges[column + 1] - x.edges[column]) * scale,
                    height=(y.edges[row + 1] - y.edges[row]) * scale,
                    left=(x.edges[column] - left) * scale,
                    top=(y.edges[row] - top) * scale,
                )
            )
        rows.append(vs.core.std.StackHorizontal(parts))
    return vs.core.std.StackVertical(rows)
