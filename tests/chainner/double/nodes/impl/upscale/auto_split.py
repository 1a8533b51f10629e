"""Double of chaiNNer's tiling, without its blending: of overlapping tiles, the later one counts."""

import itertools
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
    *,
    overlap: int,
    progress: Progress | None,
) -> np.ndarray:
    height, width, _ = get_h_w_c(img)
    whole, size = Region(0, 0, width, height), tiler.starting_tile_size(width, height)
    corners = list(itertools.product(range(0, height, size), range(0, width, size)))
    result = np.zeros(0)
    for done, (y, x) in enumerate(corners, 1):
        region = Region(x, y, size, size).add_padding(Padding.all(overlap)).intersect(whole)
        part = upscale(region.read_from(img), region)
        if isinstance(part, Split):
            return auto_split(img, upscale, Tiler(size // 2), overlap=overlap, progress=progress)
        scale = part.shape[0] // region.height
        if result.size == 0:
            result = np.zeros((height * scale, width * scale, part.shape[2]), np.float32)
        top, left = region.y * scale, region.x * scale
        result[top : top + part.shape[0], left : left + part.shape[1]] = part
        if progress is not None:
            progress.set_progress(done / len(corners))
    return result
