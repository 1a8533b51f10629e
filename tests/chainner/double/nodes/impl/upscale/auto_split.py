"""Double of chaiNNer's tiling, without its blending: of overlapping tiles, the later one counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from api import Progress

from ...utils.utils import Padding, Region, get_h_w_c
from .tiler import Tiler


class Split:
    pass


def auto_split(
    img: np.ndarray,
    upscale: Callable[[np.ndarray, Region], np.ndarray | Split],
    tiler: Tiler,
    overlap: int = 16,
    progress: Progress | None = None,
) -> np.ndarray:
    h, w, c = get_h_w_c(img)
    size = tiler.starting_tile_size(w, h, c)
    while True:
        result = _with_size(img, upscale, size, overlap, progress)
        if not isinstance(result, Split):
            return result
        size = tiler.split(size)


def _with_size(
    img: np.ndarray,
    upscale: Callable[[np.ndarray, Region], np.ndarray | Split],
    size: tuple[int, int],
    overlap: int,
    progress: Progress | None,
) -> np.ndarray | Split:
    h, w, _ = get_h_w_c(img)
    columns, rows = math.ceil(w / size[0]), math.ceil(h / size[1])
    tile_w, tile_h = math.ceil(w / columns), math.ceil(h / rows)
    result = np.zeros(0)
    for number in range(columns * rows):
        tile = Region(number % columns * tile_w, number // columns * tile_h, tile_w, tile_h)
        region = tile.add_padding(Padding.all(overlap)).intersect(Region(0, 0, w, h))
        part = upscale(region.read_from(img), region)
        if isinstance(part, Split):
            return part
        scale = part.shape[0] // region.height
        if result.size == 0:
            result = np.zeros((h * scale, w * scale, part.shape[2]), np.float32)
        top, left = region.y * scale, region.x * scale
        result[top : top + part.shape[0], left : left + part.shape[1]] = part
        if progress is not None:
            progress.set_progress((number + 1) / (columns * rows))
    return result
