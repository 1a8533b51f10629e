"""What all upscaling nodes share: chaiNNer's images in, through a network in tiles, and out again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from api import Progress
from nodes.impl.image_utils import as_target_channels
from nodes.impl.upscale.auto_split import Split, auto_split
from nodes.impl.upscale.convenient_upscale import convenient_upscale
from nodes.impl.upscale.tiler import Tiler
from nodes.utils.utils import Padding, Region, get_h_w_c

Run = Callable[[np.ndarray], np.ndarray]
"""A network: RGB or gray (1, C, H, W) float32 in [0, 1] -> the same, scale times the size."""

BLENDED = 16  # pixels in which tiles are blended where the network sees the whole image, so that none is exact


def upscale(
    img: np.ndarray,
    run: Run,
    *,
    channels: int,
    radius: int | None,
    tiler: Tiler,
    separate_alpha: bool,
    progress: Progress | None,
) -> np.ndarray:
    """Upscale an image of chaiNNer's, float32 in [0, 1]: (H, W) gray, (H, W, 3) BGR or (H, W, 4) BGRA.

    channels: those that the network takes. radius: its receptive radius in input pixels, or None if it has none.
    The result has the channels of the image: chaiNNer's own nodes make colour of gray ones. Alpha is treated as they
    treat it. With a radius, tiles together equal the whole image.
    """
    result = convenient_upscale(
        img,
        channels,
        channels,
        lambda image, part: _in_tiles(image, run, radius, tiler, part),
        separate_alpha,
        progress=progress,
    )
    return as_target_channels(result, 1, narrowing=True) if get_h_w_c(img)[2] == 1 else result


def _in_tiles(img: np.ndarray, run: Run, radius: int | None, tiler: Tiler, progress: Progress | None) -> np.ndarray:
    height, width, _ = get_h_w_c(img)
    whole = Region(0, 0, width, height)

    def one(_: np.ndarray, tile: Region) -> np.ndarray | Split:
        if progress is not None:
            progress.suspend()
        # A tile is run with all the pixels that it depends on, and only its own share is kept.
        seen = tile.add_padding(Padding.all(radius or 0)).intersect(whole)
        try:
            result = from_batch(run(to_batch(seen.read_from(img))))
        except Exception as error:  # each runtime has its own type for this
            if any(text in str(error).lower() for text in ("out of memory", "allocate")):
                return Split()
            raise
        scale = result.shape[0] // seen.height
        top, left = (tile.y - seen.y) * scale, (tile.x - seen.x) * scale
        return result[top : top + tile.height * scale, left : left + tile.width * scale]

    return auto_split(img, one, tiler, overlap=BLENDED if radius is None else 0, progress=progress)


def to_batch(img: np.ndarray) -> np.ndarray:
    """(H, W) gray, (H, W, 3) BGR or (H, W, 4) BGRA -> (1, C, H, W) gray, RGB or RGBA."""
    img = img[:, :, None] if img.ndim == 2 else _swap_red_and_blue(img)
    return np.ascontiguousarray(img.transpose(2, 0, 1))[None]


def from_batch(batch: np.ndarray) -> np.ndarray:
    """(1, C, H, W) gray, RGB or RGBA -> (H, W, C) gray, BGR or BGRA."""
    return np.ascontiguousarray(_swap_red_and_blue(batch[0].transpose(1, 2, 0)))


def _swap_red_and_blue(img: np.ndarray) -> np.ndarray:
    """Exchange channels 0 and 2 where there are three or four."""
    return img[:, :, [2, 1, 0, 3][: img.shape[2]]] if img.shape[2] >= 3 else img
