"""Quality on a folder of HR images, as the papers measure it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import ExportError
from .metrics import imresize, modcrop, psnr_y, ssim_y, to_uint8

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(1, 3, H, W) in [0, 1] -> (1, 3, s*H, s*W), not clipped."""

SUFFIXES = (".png", ".bmp", ".webp")


def measure(run: Network | None, scale: int, folder: Path) -> dict[str, float]:
    """Mean Y-PSNR (dB) and Y-SSIM over a folder, and its number of images; `run` None is bicubic.

    LR is MATLAB's bicubic, rounded to 8 bit; the output is rounded to 8 bit; Y is BT.601 limited range; `scale` pixels
    are shaved. Raises ExportError where the folder is missing or holds no image.
    """
    psnr, ssim = [], []
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise ExportError(f"{folder}: no images ({', '.join(SUFFIXES)}) in this folder.")
    for file in files:
        hr = modcrop(np.asarray(Image.open(file).convert("RGB")), scale)
        lr = imresize(hr, 1 / scale)
        if run is None:
            sr = imresize(lr, scale)
        else:
            x = np.ascontiguousarray(np.asarray(lr, np.float32).transpose(2, 0, 1)[None] / np.float32(255))
            sr = to_uint8(run(x)[0].transpose(1, 2, 0).clip(0, 1) * 255.0)
        psnr.append(psnr_y(sr, hr, scale))
        ssim.append(ssim_y(sr, hr, scale))
    return {"psnr": float(np.mean(psnr)), "ssim": float(np.mean(ssim)), "images": len(files)}
