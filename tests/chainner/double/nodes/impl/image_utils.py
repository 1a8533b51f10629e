"""Double of chaiNNer's channel conversions: gray, BGR, BGRA; luma as OpenCV weighs it."""

import numpy as np

from ..utils.utils import get_h_w_c

LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R


def as_target_channels(img: np.ndarray, target_c: int, narrowing: bool = False) -> np.ndarray:
    channels = get_h_w_c(img)[2]
    assert narrowing or channels <= target_c
    if channels == target_c:
        return img.reshape(img.shape[:2]) if channels == 1 else img
    if channels == 1:
        img = np.repeat(img.reshape(*img.shape[:2], 1), 3, 2)
    return img[:, :, :3] @ LUMA if target_c == 1 else img[:, :, :3]
