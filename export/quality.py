"""Quality of an upscaler as the papers measure it: reduce, upscale, compare. The one loop of export, training and
benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import ExportError
from .metrics import imresize, modcrop, psnr_y, ssim_y, to_uint8

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(1, C, H, W) in [0, 1] -> (1, C, s*H, s*W), not clipped."""
Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""LR (1, C, h, w) in [0, 1], and HR (s*h, s*w, C) in [0, 255]."""

SUFFIXES = (".png", ".bmp", ".webp")


def score(run: Network | None, pairs: Iterable[Pair], *, ssim: bool = True) -> dict[str, float]:
    """Mean Y-PSNR (dB), Y-SSIM where asked for, and the number of images; `run` None is bicubic.

    The output is rounded to 8 bit; Y is BT.601 limited range; `scale` pixels are shaved.
    """
    found: dict[str, list[float]] = {"psnr": []} | ({"ssim": []} if ssim else {})
    for lr, hr in pairs:
        scale = hr.shape[0] // lr.shape[2]
        sr = imresize(to_image(lr), scale) if run is None else to_image(run(lr))
        images = [image[:, :, 0] if image.shape[2] == 1 else image for image in (sr, hr)]
        found["psnr"].append(psnr_y(images[0], images[1], scale))
        if ssim:
            found["ssim"].append(ssim_y(images[0], images[1], scale))
    return {name: float(np.mean(values)) for name, values in found.items()} | {"images": len(found["psnr"])}


def measure(run: Network | None, scale: int, folder: Path) -> dict[str, float]:
    """`score` over a folder of HR images, of which LR is made by MATLAB's bicubic, rounded to 8 bit.

    Raises ExportError where the folder is missing or holds no image.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise ExportError(f"{folder}: no images ({', '.join(SUFFIXES)}) in this folder.")
    return score(run, _pairs(files, scale))


def _pairs(files: list[Path], scale: int) -> Iterator[Pair]:
    for file in files:
        hr = modcrop(np.asarray(Image.open(file).convert("RGB")), scale)
        yield to_batch(to_uint8(imresize(hr, 1 / scale))), to_uint8(hr)


def to_batch(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (H, W, C) -> float32 (1, C, H, W) in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)


def to_image(batch: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(1, C, H, W), clipped to [0, 1] -> uint8 (H, W, C)."""
    return to_uint8(batch[0].transpose(1, 2, 0).astype(np.float64) * 255)
