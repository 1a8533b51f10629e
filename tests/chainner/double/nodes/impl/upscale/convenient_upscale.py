"""Double of chaiNNer's treatment of channels: gray becomes colour, and alpha is found on black and on white."""

from __future__ import annotations

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
    clip: bool = True,
    progress: Progress | None = None,
) -> np.ndarray:
    def run(image: np.ndarray, part: Progress | None) -> np.ndarray:
        result = upscale(as_target_channels(image, model_in_nc, True), part)
        return np.clip(result, 0, 1) if clip else result

    if get_h_w_c(img)[2] != 4 or model_in_nc == 4:
        return run(img, progress)
    alpha = img[:, :, 3:]
    if len(np.unique(alpha)) == 1:
        bgr = as_target_channels(run(img[:, :, :3], progress), 3)
        return np.dstack((bgr, np.full(bgr.shape[:2], alpha[0, 0, 0], np.float32)))
    halves = [progress.sub_progress(i, 0.5) if progress else None for i in (0, 0.5)]
    if separate_alpha:
        bgr, opacity = run(img[:, :, :3], halves[0]), run(img[:, :, 3], halves[1])
        return np.dstack((as_target_channels(bgr, 3), _flat(as_target_channels(opacity, 3))))
    black = as_target_channels(run(img[:, :, :3] * alpha, halves[0]), 3)
    white = as_target_channels(run((img[:, :, :3] - 1) * alpha + 1, halves[1]), 3)
    return np.dstack((black, _flat(1 - (white - black))))


def _flat(alpha: np.ndarray) -> np.ndarray:
    low, mean, high = alpha.min(2), alpha.mean(2), alpha.max(2)
    return (high * mean + low * (1 - mean)).clip(0, 1)
