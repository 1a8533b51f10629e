"""Double of chaiNNer's treatment of channels: gray becomes colour, and alpha is upscaled as a picture of its own."""

from collections.abc import Callable

import numpy as np
from api import Progress

from ...utils.utils import get_h_w_c
from ..image_utils import as_target_channels


def convenient_upscale(
    img: np.ndarray,
    model_in_nc: int,
    model_out_nc: int,
    upscale: Callable[[np.ndarray, Progress | None], np.ndarray],
    separate_alpha: bool = False,
    *,
    progress: Progress | None,
) -> np.ndarray:
    def run(image: np.ndarray, part: Progress | None) -> np.ndarray:
        return np.clip(upscale(as_target_channels(image, model_in_nc, True), part), 0, 1)

    if get_h_w_c(img)[2] != 4 or model_in_nc == 4:
        return run(img, progress)
    bgr, alpha = img[:, :, :3], img[:, :, 3]
    if len(np.unique(alpha)) == 1:
        result = as_target_channels(run(bgr, progress), 3)
        return np.dstack((result, np.full(result.shape[:2], alpha[0, 0], np.float32)))
    halves = [progress.sub_progress(i, 0.5) if progress else None for i in (0, 0.5)]
    result = run(bgr if separate_alpha else bgr * alpha[:, :, None], halves[0])
    return np.dstack((as_target_channels(result, 3), as_target_channels(run(alpha, halves[1]), 1, True)))
