"""Double of chaiNNer's channel conversions: gray, BGR, BGRA; luma as OpenCV weighs it."""

from __future__ import annotations

import numpy as np

from ..utils.utils import get_h_w_c

LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R


def as_target_channels(img: np.ndarray, target_c: int, narrowing: bool = False) -> np.ndarray:
    c = get_h_w_c(img)[2]
    assert narrowing or c <= target_c
    if c == target_c:
        return img.reshape(img.shape[:2]) if c == 1 else img
    if c == 1:
        img = np.repeat(img.reshape(*img.shape[:2], 1), 3, 2)
    if target_c == 1:
        return img[:, :, :3] @ LUMA
    return img[:, :, :3] if target_c == 3 else np.dstack((img[:, :, :3], np.ones(img.shape[:2], np.float32)))
