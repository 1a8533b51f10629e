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
    def run(image: np.ndarray) -> np.ndarray:
        return np.clip(upscale(as_target_channels(image, model_in_nc, True), progress), 0, 1)

    if get_h_w_c(img)[2] != 4 or model_in_nc == 4:
        return run(img)
    bgr, alpha = img[:, :, :3], img[:, :, 3]
    result = run(bgr if separate_alpha else bgr * alpha[:, :, None])
    return np.dstack((as_target_channels(result, 3), as_target_channels(run(alpha), 1, True)))
