"""Images for calibration and evaluation: the bundled ones, or a folder of the user's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import ExportError
from .metrics import imresize, modcrop, to_uint8
from .quality import to_batch

BUNDLED = Path(__file__).resolve().parent / "images"
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MOST = 64  # images read from a folder
CHECKS = 3  # evaluation images on which an engine is compared with torch
SIDE = 384  # largest side of a calibration image, in LR pixels


def decode(file: Path | IO[bytes]) -> np.ndarray:
    """An image as uint8 (H, W, 3); 16-bit grey is reduced to 8 bit, and alpha left out.

    Raises ValueError, saying why, for everything else that cannot be read so.
    """
    try:
        with Image.open(file) as image:
            if image.mode.startswith("I;16"):  # which Pillow's own conversion would clip at 255
                return np.repeat(to_uint8(np.array(image)[:, :, None] / 257), 3, axis=2)
            if image.mode not in ("I", "F"):
                return np.array(image.convert("RGB"))
            reason = f"its pixels are of mode {image.mode}; 8 bit and 16-bit grey can be read"
    except Exception as error:  # damaged files make Pillow raise nearly anything
        reason = str(error)
    raise ValueError(reason)


def read_folder(folder: Path) -> list[np.ndarray]:
    """Up to 64 images of a folder, in name order, as uint8 (H, W, 3).

    Raises ExportError where the folder is missing, holds no image, or a file is not readable as an image.
    """
    if not folder.is_dir():
        raise ExportError(f"{folder}: there is no such folder of images.")
    # macOS puts a file ._NAME of its own beside each file on other systems' disks; hidden files are none of the user's
    paths = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")][:MOST]
    if not paths:
        raise ExportError(f"{folder}: no image in this folder (of {', '.join(SUFFIXES)}).")
    images = []
    for path in paths:
        try:
            images.append(decode(path))
        except ValueError as error:
            raise ExportError(f"{path}: not readable as an image ({error}).") from error
    return images


def calibration(folder: Path | None, scale: int, channels: int) -> list[Tensor]:
    """LR images (1, channels, h, w) in [0, 1] to choose ranges on: the bundled ones, or those of `folder`.

    Raises ExportError for other channels than 1 and 3, and as `read_folder` does.
    """
    images = read_folder(folder or BUNDLED)
    return [lr for lr, _ in (_pair(i, scale, channels) for i in images)]


def evaluation(scale: int, channels: int) -> list[tuple[Tensor, np.ndarray]]:
    """(LR tensor (1, channels, h, w) in [0, 1], HR uint8 (H, W, channels)) of the bundled evaluation images.

    Raises ExportError for other channels than 1 and 3.
    """
    paths = [p for p in sorted(BUNDLED.glob("*.webp")) if not p.name.startswith("calibration_")]
    return [_pair(np.array(Image.open(p).convert("RGB")), scale, channels) for p in paths]


def _pair(image: np.ndarray, scale: int, channels: int) -> tuple[Tensor, np.ndarray]:
    if channels not in (1, 3):
        raise ExportError(
            f"The network takes {channels} channels; engines are verified on grey or RGB pictures, of 1 or 3."
        )
    if channels == 1:
        image = to_uint8(image @ np.array([0.299, 0.587, 0.114]))[:, :, None]
    hr = modcrop(image[: SIDE * scale, : SIDE * scale], scale)
    if 0 in hr.shape:
        raise ExportError(f"An image of {image.shape[1]}x{image.shape[0]} is too small for scale {scale}.")
    return torch.from_numpy(to_batch(to_uint8(imresize(hr, Fraction(1, scale))))), hr
