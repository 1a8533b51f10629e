"""imresize against Pillow's filter and by properties; PSNR and SSIM against their definitions."""

import math

import numpy as np
import pytest
from PIL import Image

from export.metrics import imresize, luma, modcrop, psnr_y, ssim_y, to_uint8


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shrinking_is_the_antialiased_cubic_filter_that_pillow_has(scale: int) -> None:
    image = picture(48, 72)[:, :, 0].astype(np.float64)
    ours = np.asarray(imresize(image, 1 / scale), np.float64)
    size = (72 // scale, 48 // scale)
    theirs = np.asarray(Image.fromarray(image.astype(np.float32)).resize(size, Image.Resampling.BICUBIC))
    assert ours.shape == theirs.shape
    # Pillow cuts the filter off at borders, MATLAB mirrors the image
    np.testing.assert_allclose(ours[2:-2, 2:-2], theirs[2:-2, 2:-2], rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 1, 2, 3])
def test_a_flat_image_stays_flat_and_uint8_stays_uint8(scale: float) -> None:
    flat = np.full((12, 24, 3), 77, np.uint8)
    out = imresize(flat, scale)
    assert out.dtype == np.uint8
    assert out.shape[:2] == (math.ceil(12 * scale - 1e-9), math.ceil(24 * scale - 1e-9))
    assert (out == 77).all()


def test_borders_are_mirrored() -> None:
    image = picture()
    mirrored = np.pad(image, ((16, 16), (16, 16), (0, 0)), mode="symmetric")
    inner = imresize(mirrored.astype(np.float64), 0.5)[8:-8, 8:-8]
    assert np.abs(np.subtract(inner, imresize(image.astype(np.float64), 0.5))).max() < 1e-9


def test_psnr_is_that_of_the_y_channel_without_the_shaved_border() -> None:
    a = picture(seed=1)
    b = a.copy()
    b[0] = 255 - b[0]  # shaved away
    assert psnr_y(a, b, 1) == math.inf
    grey = np.full((16, 16, 3), 100, np.uint8)
    difference = 219 / 255  # one code of grey in limited-range Y
    assert psnr_y(grey, grey + 1) == pytest.approx(20 * math.log10(255 / difference))


def test_ssim_is_one_for_equal_images_and_follows_its_formula() -> None:
    a, b = (picture(11, 11, seed) for seed in (2, 3))
    assert ssim_y(a, a) == pytest.approx(1.0)
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights, both = np.outer(g, g).ravel(), [luma(each).ravel() for each in (a, b)]
    mx, my = np.average(both, axis=1, weights=weights)
    (vx, cov), (_, vy) = np.cov(both, ddof=0, aweights=weights)
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim_y(a, b) == pytest.approx(expected)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match="int64"):
        imresize(np.zeros((8, 8), np.int64), 0.5)
    with pytest.raises(ValueError, match="positive"):
        imresize(np.zeros((8, 8)), 0)
    with pytest.raises(ValueError, match="differ in shape"):
        psnr_y(np.zeros((8, 8, 3)), np.zeros((8, 9, 3)))
    with pytest.raises(ValueError, match="Nothing is left"):
        psnr_y(np.zeros((8, 8, 3)), np.zeros((8, 8, 3)), 4)


def test_luma_modcrop_and_rounding() -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert luma(ends)[0].tolist() == pytest.approx([16, 235])
    assert modcrop(np.zeros((7, 10, 3)), 3).shape == (6, 9, 3)
    assert to_uint8(np.array([-3.0, 0.5, 1.49, 254.5, 300.0])).tolist() == [0, 1, 1, 255, 255]
