"""Image resizing and quality as the papers compute them: MATLAB's imresize, Y-PSNR, Y-SSIM."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.generic]

BT601 = (65.481, 128.553, 24.966)  # Y of limited range (ITU-R BT.601, 8 bit) from R, G, B in [0, 1], without its 16

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def imresize(image: Image, scale: float | Fraction) -> Image:
    """Bicubic resize with antialiasing, as MATLAB's `imresize(image, scale)`: the benchmarks' LR is made so.

    image: (H, W) or (H, W, C). uint8 gives uint8 (rounded and saturated after each of the two passes, as
        MATLAB does); floating point gives float64 of the same range, neither rounded nor clipped.
    scale: output size over input size, positive; the output is ceil(H * scale) x ceil(W * scale). For scale
        1 / s crop the image to a multiple of s first (`modcrop`), as the papers do.

    Raises ValueError for other shapes, types or scales.
    """
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"imresize takes (H, W) or (H, W, C); the shape given is {image.shape}.")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"imresize takes uint8 or floating-point images; {image.dtype} was given.")
    ratio = Fraction(scale).limit_denominator(1000)
    if ratio <= 0:
        raise ValueError(f"scale is {scale}; it must be positive.")
    out = image
    for axis in (0, 1):
        out = _resize_axis(out, axis, ratio)
        if image.dtype == np.uint8:
            out = to_uint8(out)
    return out


def modcrop(image: Image, scale: int) -> Image:
    """Cut (H, W, ...) at the right and bottom to multiples of `scale`."""
    return image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


def to_uint8(image: Image) -> NDArray[np.uint8]:
    """Round half up and saturate values of range [0, 255] to uint8."""
    return np.clip(np.floor(np.asarray(image, np.float64) + 0.5), 0, 255).astype(np.uint8)


def luma(image: Image) -> NDArray[np.float64]:
    """Y of ITU-R BT.601, limited range (16..235), not rounded, from RGB (H, W, 3) in [0, 255] -> (H, W).

    A grey image (H, W) is Y already, as the papers' scripts take it. Raises ValueError for other shapes.
    """
    if image.ndim == 2:
        return image.astype(np.float64)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"luma takes RGB (H, W, 3) or grey (H, W) images; the shape given is {image.shape}.")
    return 16.0 + image.astype(np.float64) @ (np.array(BT601) / 255.0)


def psnr_y(image: Image, reference: Image, shave: int = 0) -> float:
    """PSNR in dB of the Y channel (peak 255), `shave` pixels left out at each border (the papers: scale).

    Both images: RGB (H, W, 3), or grey (H, W), uint8 or floating point in [0, 255]; the papers'
    figures are of uint8 (`to_uint8`). Bicubic 2x with this module: Set5 33.67 dB, BSD100 29.56.
    Identical images give infinity. Raises ValueError where the shapes differ or nothing is left.
    """
    a, b = _luma_pair(image, reference, shave)
    error = float(np.mean((a - b) ** 2))
    return math.inf if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def ssim_y(image: Image, reference: Image, shave: int = 0) -> float:
    """SSIM (Wang et al., 2004) of the Y channel: 11 x 11 Gaussian of sigma 1.5, full windows only.

    Arguments and errors as `psnr_y`; at least 11 x 11 pixels must be left.
    """
    a, b = _luma_pair(image, reference, shave)
    if min(a.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} x {SSIM_WINDOW} pixels; {a.shape} are left.")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _gaussian(a), _gaussian(b)
    var_a = _gaussian(a * a) - mean_a**2
    var_b = _gaussian(b * b) - mean_b**2
    covariance = _gaussian(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def cubic(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Keys' cubic kernel with a = -0.5 (1981), of distances in samples: the one of every bicubic here."""
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1.0
    outer = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, inner, np.where(x < 2.0, outer, 0.0))


def _taps(size: int, ratio: Fraction) -> tuple[NDArray[np.intp], NDArray[np.floating]]:
    """Source indices and weights, (taps, output size) each; borders are mirrored with the edge repeated."""
    out_size = math.ceil(size * ratio)
    scale = float(ratio)
    shrink = min(scale, 1.0)  # antialiasing widens the kernel when shrinking
    centre = (np.arange(out_size, dtype=np.float64) + 0.5) / scale - 0.5
    width = math.ceil(4.0 / shrink) + 2
    left = np.floor(centre - 2.0 / shrink).astype(np.intp)
    index = left + np.arange(width)[:, None]
    weight = cubic((centre - index) * shrink)
    weight /= weight.sum(0)
    used = np.abs(weight).max(1) > 0
    index, weight = index[used], weight[used]
    index = np.mod(index, 2 * size)
    return np.where(index < size, index, 2 * size - 1 - index), weight


def _resize_axis(image: Image, axis: int, ratio: Fraction) -> NDArray[np.float64]:
    index, weight = _taps(image.shape[axis], ratio)
    shape = [1] * image.ndim
    shape[axis] = -1
    size = list(image.shape)
    size[axis] = index.shape[1]
    out = np.zeros(size)
    for i, w in zip(index, weight, strict=True):
        out += np.take(image, i, axis) * w.reshape(shape)
    return out


def _luma_pair(image: Image, reference: Image, shave: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if image.shape != reference.shape:
        raise ValueError(f"The images differ in shape: {image.shape} and {reference.shape}.")
    a, b = luma(image), luma(reference)
    if shave:
        a, b = a[shave:-shave, shave:-shave], b[shave:-shave, shave:-shave]
    if a.size == 0:
        raise ValueError(f"Nothing is left of {image.shape} after {shave} pixels are shaved off each border.")
    return a, b


def _gaussian(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Separable Gaussian window, full windows only."""
    offset = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    for axis in (0, 1):
        size = image.shape[axis] - SSIM_WINDOW + 1
        out = np.zeros(np.where(np.arange(2) == axis, size, image.shape))
        for i, w in enumerate(window):
            out += np.take(image, np.arange(i, i + size), axis) * w
        image = out
    return image
